// Observers eat the outputs of taps and fill a calibration record; what a scale is made of comes
// from the record afterwards, so that one calibration serves every method.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "quant/record.h"
#include "quant/taps.h"
#include "tensor/tensor.h"

namespace halftone::quant {

// Adds calls to a record. Equal calls in equal order give an equal record, whether or not it was
// saved and loaded in between. The record must outlive this.
class Recorder {
 public:
  // Adds the taps' values to the record where they are missing; throws kInvalidArgument when the
  // record holds other layers, channels or another number of steps.
  Recorder(CalibrationRecord& record, std::vector<Tap> taps, int num_steps);

  using Read = std::function<Tensor(const std::string& output)>;
  // After run_step: `step` in [0, num_steps). Prompt-rate taps are read at step 0 only. Throws
  // kInternal naming the layer when a statistic is not finite.
  void observe(const Read& read, int step);

 private:
  CalibrationRecord& record_;
  std::vector<Tap> taps_;
  int num_steps_;
};

// How one number, the largest magnitude that is kept, comes from statistics.
// Only the first max(1, floor(steps * percentile)) steps count ("percentile" is a share of steps).
// d = data of a step, n = calls seen at it:
//   min-mean   d = sum of m;  min over steps of d / n
//   mean-max   d = max of m;  mean over steps of d
//   min-max    d = max of m;  min over steps of d
//   global_min d = min of m;  min over steps of d
//   max        the largest m of all steps (percentile is ignored)
//   hist:P     the P-th percentile of |x| (P in percent)
//   mse        the amax whose 8-bit rounding has the least squared error on the histogram
struct Collect {
  enum class Method : uint8_t { kMinMean, kMinMax, kMeanMax, kGlobalMin, kMax, kHistogram, kMse };
  Method method = Method::kMinMean;
  double histogram_percentile = 99.9;
  double percentile = 1.0;
  // Reproduces a source system: trt10 and nemo divide min-mean's sum (trt10: also global_min's) by
  // the number of steps instead of by n; trt9 takes the minimum of the steps' maxima over the first
  // 40 % of steps, also for linears; mixdq uses its moving averages.
  enum class Compat : uint8_t { kNone, kTrt9, kTrt10, kNemo, kMixdq };
  Compat compat = Compat::kNone;
  bool operator==(const Collect&) const = default;
};
// "min-mean", ..., "hist:99.9"; throws kInvalidArgument listing the names.
[[nodiscard]] Collect::Method parse_method(std::string_view text, double& histogram_percentile);
[[nodiscard]] std::string method_name(const Collect& collect);
[[nodiscard]] Collect::Compat parse_compat(std::string_view text);
[[nodiscard]] std::string_view to_string(Collect::Compat compat);

// >= 0 and finite. `bits` of the quantizer that will use it matter to mse alone.
[[nodiscard]] float amax_of(const ValueStats& stats, const Collect& collect, int64_t bits = 8);

// Decibels that integer codes `step` apart keep of a value: its mean square (the histogram, each
// bin at its middle) over step^2 / 12, the noise of rounding. `noise_gain`: how much more of that
// noise than of the value gets into what the reader makes of it. Minus infinity when the histogram
// is empty or holds nothing but zeros.
[[nodiscard]] double predicted_sqnr(const ValueStats& stats, double step, double noise_gain);

// Scale and zero point (of codes from -2^(bits-1)) for values from `low` to `high`, which are
// widened to hold 0: s = (high - low) / (2^bits - 1), z = rne(-low / s) - 2^(bits-1).
struct AsymmetricRange {
  float scale;
  int32_t zero;
};
[[nodiscard]] AsymmetricRange asymmetric_range(float low, float high, int64_t bits);

}  // namespace halftone::quant
