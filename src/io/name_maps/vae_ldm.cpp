// The autoencoder of single files. "up.K" counts levels from the finest, diffusers from the
// coarsest.
#include <fmt/format.h>

#include "io/name_maps/name_maps.h"

namespace halftone::io {

extern const NameMap k_vae_ldm;

namespace {

constexpr std::string_view kPrefixes[] = {"first_stage_model.", "vae."};

constexpr Rename kWhole[] = {
    {"mid.block_1", "mid_block.resnets.0"},
    {"mid.block_2", "mid_block.resnets.1"},
    {"mid.attn_1.norm", "mid_block.attentions.0.group_norm"},
    {"mid.attn_1.q", "mid_block.attentions.0.to_q"},
    {"mid.attn_1.k", "mid_block.attentions.0.to_k"},
    {"mid.attn_1.v", "mid_block.attentions.0.to_v"},
    {"mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0"},
    {"norm_out", "conv_norm_out"},
    {"conv_in", "conv_in"},
    {"conv_out", "conv_out"},
};

constexpr Rename kShortcut[] = {{"nin_shortcut", "conv_shortcut"}};

std::string resnet_part(std::string_view rest) {
  return rename(rest, kShortcut).value_or(std::string(rest));
}

// Name below "encoder." or "decoder.".
std::optional<std::string> half(const DottedName& name, uint64_t levels) {
  const std::string_view side = name[0];
  if (name[1] == "mid" && name[2].starts_with("block_")) {
    const auto block = rename(fmt::format("{}.{}", name[1], name[2]), kWhole);
    if (!block) return std::nullopt;
    return fmt::format("{}.{}.{}", side, *block, resnet_part(name.from(3)));
  }
  if (const auto whole = rename(name.from(1), kWhole)) return fmt::format("{}.{}", side, *whole);
  const bool is_down = name[1] == "down";
  const auto level = name.index(2);
  if ((!is_down && name[1] != "up") || !level || *level >= levels) return std::nullopt;
  const std::string block = is_down ? fmt::format("{}.down_blocks.{}", side, *level)
                                    : fmt::format("{}.up_blocks.{}", side, levels - 1 - *level);
  if (name[3] == "block" && name.index(4)) {
    return fmt::format("{}.resnets.{}.{}", block, *name.index(4), resnet_part(name.from(5)));
  }
  if (name[3] == "downsample" || name[3] == "upsample") {
    return fmt::format("{}.{}rs.0.{}", block, name[3], name.from(4));
  }
  return std::nullopt;
}

std::optional<std::vector<MappedTensor>> map(std::string_view stored,
                                             const NameMapContext& context) {
  for (const std::string_view prefix : kPrefixes) {
    if (!stored.starts_with(prefix)) continue;
    const std::string_view inner = stored.substr(prefix.size());
    const DottedName name(inner);
    if (name[0] == "quant_conv" || name[0] == "post_quant_conv") {
      return std::vector<MappedTensor>{{"vae", std::string(inner)}};
    }
    if (name[0] != "encoder" && name[0] != "decoder") return std::nullopt;
    const auto ours = half(name, context.vae_levels);
    if (!ours) return std::nullopt;
    return std::vector<MappedTensor>{{"vae", *ours}};
  }
  return std::nullopt;
}

}  // namespace

const NameMap k_vae_ldm{"vae_ldm", map};

}  // namespace halftone::io
