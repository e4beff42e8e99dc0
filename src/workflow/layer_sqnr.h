// How much each quantized layer alone changes its output.
#pragma once

#include <string>
#include <vector>

#include "halftone/compare.h"

#include "backend/backend.h"

namespace halftone::workflow {

// Draws generate.prompt in full precision (fp32), and at the first, the middle and the last step
// runs every layer that the session's recipe quantizes on the inputs that it then has: once as it
// is, and once with the recipe applied (Quantize and Dequantize kept apart), layers that share an
// input together; attentions in 8 bits too, on the q, k and v that they then have (v is never
// smoothed here: to_v, which would do it, is another layer). Layers in the order of the graph;
// empty when the session quantizes nothing. Memory: as many layers at a time as fit into about 512
// MB.
[[nodiscard]] std::vector<LayerComparison> layer_sqnr(backend::Device& device,
                                                      const SessionOptions& session,
                                                      const GenerateOptions& generate);

}  // namespace halftone::workflow
