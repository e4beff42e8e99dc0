// SDXL's second text encoder in OpenCLIP names: q, k and v in one matrix, the projection
// transposed.
#include <array>

#include <fmt/format.h>

#include "io/name_maps/name_maps.h"

namespace halftone::io {

extern const NameMap k_open_clip;

namespace {

constexpr std::string_view kPrefix = "conditioner.embedders.1.model.";
constexpr std::string_view kComponent = "text_encoder_2";

constexpr Rename kWhole[] = {
    {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
    {"token_embedding", "text_model.embeddings.token_embedding"},
    {"ln_final", "text_model.final_layer_norm"},
};

constexpr Rename kLayer[] = {
    {"ln_1", "layer_norm1"},
    {"ln_2", "layer_norm2"},
    {"mlp.c_fc", "mlp.fc1"},
    {"mlp.c_proj", "mlp.fc2"},
    {"attn.out_proj", "self_attn.out_proj"},
};

std::vector<MappedTensor> split_in_proj(uint64_t layer, std::string_view kind) {
  constexpr std::array<std::string_view, 3> kParts{"q_proj", "k_proj", "v_proj"};
  std::vector<MappedTensor> out;
  for (uint64_t i = 0; i < kParts.size(); ++i) {
    out.push_back({.component = std::string(kComponent),
                   .name = fmt::format("text_model.encoder.layers.{}.self_attn.{}.{}", layer,
                                       kParts[i], kind),
                   .part = i,
                   .num_parts = kParts.size()});
  }
  return out;
}

std::optional<std::vector<MappedTensor>> map(std::string_view stored, const NameMapContext&) {
  if (!stored.starts_with(kPrefix)) return std::nullopt;
  stored.remove_prefix(kPrefix.size());
  if (stored == "logit_scale" || stored == "attn_mask") return std::vector<MappedTensor>{};
  const auto one = [](std::string name, bool transposed = false) {
    return std::vector<MappedTensor>{{std::string(kComponent), std::move(name), transposed}};
  };
  if (stored == "text_projection") return one("text_projection.weight", true);
  if (const auto whole = rename(stored, kWhole)) return one(*whole);
  const DottedName name(stored);
  const auto layer = name.index(2);
  if (name[0] != "transformer" || name[1] != "resblocks" || !layer) return std::nullopt;
  const std::string_view rest = name.from(3);
  if (rest == "attn.in_proj_weight") return split_in_proj(*layer, "weight");
  if (rest == "attn.in_proj_bias") return split_in_proj(*layer, "bias");
  const auto inner = rename(rest, kLayer);
  if (!inner) return std::nullopt;
  return one(fmt::format("text_model.encoder.layers.{}.{}", *layer, *inner));
}

}  // namespace

const NameMap k_open_clip{"open_clip", map};

}  // namespace halftone::io
