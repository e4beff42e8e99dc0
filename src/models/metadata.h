// What a plan tells the run path of its model: text keys, kept in the plan beside the graph's
// profiles.
//
//   component              keys (numbers in decimal, booleans "true"/"false")
//   text_encoder, _2       channels, max_tokens, vocab_size, num_layers, eos_token_id,
//                          pooled_channels (0 without text_projection)
//   clip_text              as text_encoder
//   clip_vision            image_size (pixels), pooled_channels
//   unet                   latent_channels, sample_size (latent extent of the training),
//                          context_channels, addition_embed_type ("" or "text_time"),
//                          pooled_channels, num_time_ids, time_ids_channels (0 without add
//                          embedding)
//   vae_decoder, _encoder  latent_channels, vae_scale_factor (image extent / latent extent),
//                          scaling_factor, shift_factor, force_upcast, sample_size
//
// Every component also has "component" and "class". The prediction type belongs to the scheduler's
// config, not to the model's.
#pragma once

#include <map>
#include <string>

namespace halftone::models {

using Metadata = std::map<std::string, std::string>;

}  // namespace halftone::models
