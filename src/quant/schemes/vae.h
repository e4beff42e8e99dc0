// INT8 and FP8 for the decoder of a VAE.
#pragma once

#include "quant/schemes/scheme.h"

namespace halftone::quant {

// W8A8 convolutions in `codes`, kI8 or kF8E4M3: weights per output channel, inputs by a static
// scale per tensor (`method`, else of least squared error in INT8, the maximum in FP8). Attention
// and what maps latents and pixels stay as they are; `policy` "mlperf" also keeps what MLPerf's
// list keeps, "none" keeps nothing but the attention. `exclude` and `include` follow; the other
// options do not apply.
[[nodiscard]] Recipe make_vae_recipe(const SchemeOptions& options, DType codes = DType::kI8);

}  // namespace halftone::quant
