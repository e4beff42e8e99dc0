#include "amax_cases.h"
#include "attention_cases.h"
#include "conv2d_cases.h"
#include "denoise_step_cases.h"
#include "elementwise_cases.h"
#include "linear_cases.h"
#include "movement_cases.h"
#include "norm_cases.h"
#include "quantize_cases.h"
#include "quantized_cases.h"
#include "row_statistics_cases.h"

namespace halftone::conformance {

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (auto* table : {linear_cases,
                      row_statistics_cases,
                      norm_weight_cases,
                      conv2d_cases,
                      attention_cases,
                      quantized_attention_cases,
                      coded_attention_cases,
                      projected_attention_cases,
                      center_cases,
                      group_norm_cases,
                      layer_norm_cases,
                      elementwise_cases,
                      movement_cases,
                      denoise_step_cases,
                      quantized_linear_cases,
                      quantized_conv2d_cases,
                      quantize_cases,
                      amax_cases,
                      quantize_amax_cases,
                      dequantize_cases,
                      scale_cases,
                      reduce_cases,
                      quantized_norm_cases}) {
    std::vector<Case> cases = table();
    all.insert(all.end(), std::make_move_iterator(cases.begin()),
               std::make_move_iterator(cases.end()));
  }
  return all;
}

}  // namespace halftone::conformance
