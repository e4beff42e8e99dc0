// The UNet of SD 1.x and SDXL single files (CompVis "latent diffusion" names).
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "io/name_maps/name_maps.h"

namespace halftone::io {

extern const NameMap k_sdxl_ldm;

namespace {

constexpr std::string_view kPrefix = "model.diffusion_model.";

constexpr Rename kEnds[] = {
    {"time_embed.0", "time_embedding.linear_1"},
    {"time_embed.2", "time_embedding.linear_2"},
    {"label_emb.0.0", "add_embedding.linear_1"},
    {"label_emb.0.2", "add_embedding.linear_2"},
    {"input_blocks.0.0", "conv_in"},
    {"out.0", "conv_norm_out"},
    {"out.2", "conv_out"},
};

constexpr Rename kResnet[] = {
    {"in_layers.0", "norm1"},  {"in_layers.2", "conv1"},  {"emb_layers.1", "time_emb_proj"},
    {"out_layers.0", "norm2"}, {"out_layers.3", "conv2"}, {"skip_connection", "conv_shortcut"},
};

std::optional<std::string> resnet(std::string_view block, uint64_t index, std::string_view rest) {
  const auto inner = rename(rest, kResnet);
  if (!inner) return std::nullopt;
  return fmt::format("{}.resnets.{}.{}", block, index, *inner);
}

// input_blocks.I.J.rest, I >= 1; each level has L layers and, but for the last, a downsampler.
std::optional<std::string> down(const DottedName& name, uint64_t layers) {
  const auto i = name.index(1);
  const auto j = name.index(2);
  if (!i || !j || *i == 0) return std::nullopt;
  const uint64_t layer = (*i - 1) % (layers + 1);
  const std::string block = fmt::format("down_blocks.{}", (*i - 1) / (layers + 1));
  if (*j == 0 && name[3] == "op") {
    return fmt::format("{}.downsamplers.0.conv.{}", block, name.from(4));
  }
  if (*j == 0) return resnet(block, layer, name.from(3));
  if (*j == 1) return fmt::format("{}.attentions.{}.{}", block, layer, name.from(3));
  return std::nullopt;
}

std::optional<std::string> middle(const DottedName& name) {
  if (name[1] == "0") return resnet("mid_block", 0, name.from(2));
  if (name[1] == "1") return fmt::format("mid_block.attentions.0.{}", name.from(2));
  if (name[1] == "2") return resnet("mid_block", 1, name.from(2));
  return std::nullopt;
}

// output_blocks.I.J.rest; the upsampler is the last J of a level's last layer.
std::optional<std::string> up(const DottedName& name, uint64_t layers) {
  const auto i = name.index(1);
  const auto j = name.index(2);
  if (!i || !j || *j > 2) return std::nullopt;
  const std::string block = fmt::format("up_blocks.{}", *i / (layers + 1));
  const uint64_t layer = *i % (layers + 1);
  if (*j == 0) return resnet(block, layer, name.from(3));
  if (name[3] == "conv") return fmt::format("{}.upsamplers.0.conv.{}", block, name.from(4));
  return fmt::format("{}.attentions.{}.{}", block, layer, name.from(3));
}

std::optional<std::vector<MappedTensor>> map(std::string_view stored,
                                             const NameMapContext& context) {
  if (!stored.starts_with(kPrefix)) return std::nullopt;
  stored.remove_prefix(kPrefix.size());
  const DottedName name(stored);
  std::optional<std::string> ours = rename(stored, kEnds);
  if (!ours && name[0] == "input_blocks") ours = down(name, context.unet_layers_per_block);
  if (!ours && name[0] == "middle_block") ours = middle(name);
  if (!ours && name[0] == "output_blocks") ours = up(name, context.unet_layers_per_block);
  if (!ours) return std::nullopt;
  return std::vector<MappedTensor>{{"unet", *ours}};
}

template <size_t N>
constexpr std::array<Rename, N> swapped(const Rename (&table)[N]) {
  std::array<Rename, N> out{};
  std::ranges::transform(table, out.begin(), [](const Rename& row) {
    return Rename{row.to, row.from};
  });
  return out;
}

// The part of a module's name below its block: "resnets.1.conv1" of input or output block `index`.
std::vector<std::string> ldm_inner(std::string_view side, uint64_t index, const DottedName& name,
                                   size_t at) {
  if (name[at] == "attentions") return {fmt::format("{}.{}.1.{}", side, index, name.from(at + 2))};
  if (name[at] != "resnets") return {};
  const auto inner = rename(name.from(at + 2), swapped(kResnet));
  if (!inner) return {};
  return {fmt::format("{}.{}.0.{}", side, index, *inner)};
}

}  // namespace

std::vector<std::string> ldm_names(std::string_view module, uint64_t layers) {
  if (const auto end = rename(module, swapped(kEnds))) return {*end};
  const DottedName name(module);
  if (name[0] == "mid_block") {
    const auto layer = name.index(2);
    if (!layer) return {};
    if (name[1] == "attentions") return {fmt::format("middle_block.1.{}", name.from(3))};
    const auto inner = rename(name.from(3), swapped(kResnet));
    if (!inner) return {};
    return {fmt::format("middle_block.{}.{}", *layer * 2, *inner)};
  }
  const auto block = name.index(1);
  const auto layer = name.index(3);
  if (!block || !layer) return {};
  const uint64_t first = *block * (layers + 1);
  if (name[0] == "down_blocks") {
    if (name[2] != "downsamplers") return ldm_inner("input_blocks", first + *layer + 1, name, 2);
    return {fmt::format("input_blocks.{}.0.op", first + layers + 1)};
  }
  if (name[0] != "up_blocks") return {};
  if (name[2] != "upsamplers") return ldm_inner("output_blocks", first + *layer, name, 2);
  return {fmt::format("output_blocks.{}.1.conv", first + layers),
          fmt::format("output_blocks.{}.2.conv", first + layers)};
}

const NameMap k_sdxl_ldm{"sdxl_ldm", map};

}  // namespace halftone::io
