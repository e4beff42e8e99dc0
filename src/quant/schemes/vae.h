// INT8 for the decoder of a VAE.
#pragma once

#include "quant/schemes/scheme.h"

namespace halftone::quant {

// W8A8 convolutions: weights per output channel, inputs by a static scale per tensor (`method`,
// else of least squared error). Attention and what maps latents and pixels stay as they are;
// `policy` "mlperf" also keeps what MLPerf's list keeps, "none" keeps nothing but the attention.
// `exclude` and `include` follow; the other options do not apply.
[[nodiscard]] Recipe make_vae_recipe(const SchemeOptions& options);

}  // namespace halftone::quant
