// The CLIP-L text encoder of single files, already in Hugging Face names below a prefix.
#include "io/name_maps/name_maps.h"

namespace halftone::io {

extern const NameMap k_hf_clip;

namespace {

constexpr std::string_view kPrefixes[] = {"conditioner.embedders.0.transformer.",
                                          "cond_stage_model.transformer."};

std::optional<std::vector<MappedTensor>> map(std::string_view stored, const NameMapContext&) {
  for (const std::string_view prefix : kPrefixes) {
    if (!stored.starts_with(prefix)) continue;
    return std::vector<MappedTensor>{{"text_encoder", std::string(stored.substr(prefix.size()))}};
  }
  if (stored == "conditioner.embedders.0.logit_scale" || stored == "cond_stage_model.logit_scale") {
    return std::vector<MappedTensor>{};
  }
  return std::nullopt;
}

}  // namespace

const NameMap k_hf_clip{"hf_clip", map};

}  // namespace halftone::io
