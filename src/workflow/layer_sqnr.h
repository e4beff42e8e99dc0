// How much each quantized layer alone changes its output.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "halftone/compare.h"

#include "backend/backend.h"
#include "quant/apply.h"
#include "workflow/quantization.h"

namespace halftone::workflow {

struct MeasuredLayer {
  quant::LayerReport report;
  size_t group = 0;  // layers that read one value have one number, the same for every candidate
  double sqnr = 0;   // of the layer's output over everything measured, dB; infinite when equal
};

// Draws the prompts (prompt i with seed + i) in full precision (fp32), and at the first, the middle
// and the last step runs every layer that a candidate quantizes on the inputs that it then has:
// once as it is, and once as each candidate wants it (Quantize and Dequantize kept apart), layers
// that share an input together. A list a candidate, of the layers that it quantizes, in the order
// of the graph. Memory: as many layers at a time as fit into about 512 MB; a form that several
// candidates give a layer is run once.
[[nodiscard]] std::vector<std::vector<MeasuredLayer>> measure_layers(
    backend::Device& device, const SessionOptions& session, const GenerateOptions& generate,
    std::span<const std::string> prompts, std::span<const Quantization> candidates);

// The session's recipe on generate.prompt; empty when the session quantizes nothing.
[[nodiscard]] std::vector<LayerComparison> layer_sqnr(backend::Device& device,
                                                      const SessionOptions& session,
                                                      const GenerateOptions& generate);

}  // namespace halftone::workflow
