#include <algorithm>

#include <fmt/format.h>

#include "models/config_reader.h"
#include "models/unet.h"

namespace halftone::models {
namespace {

using Depths = std::vector<std::vector<int64_t>>;  // [level][layer] number of transformer blocks

// Options of UNet2DConditionModel that change the computation, with the values we compute.
void check_options(ConfigReader& json) {
  json.expect("act_fn", {"silu", "swish"});
  json.expect("attention_type", {"default"});
  json.expect("center_input_sample", {false});
  json.expect("class_embed_type", {});
  json.expect("class_embeddings_concat", {false});
  json.expect("conv_in_kernel", {3});
  json.expect("conv_out_kernel", {3});
  json.expect("cross_attention_norm", {});
  json.expect("downsample_padding", {1});
  json.expect("dual_cross_attention", {false});
  json.expect("encoder_hid_dim", {});
  json.expect("encoder_hid_dim_type", {});
  json.expect("mid_block_only_cross_attention", {false});
  json.expect("mid_block_scale_factor", {1});
  json.expect("num_class_embeds", {});
  json.expect("only_cross_attention", {false});
  json.expect("resnet_out_scale_factor", {1});
  json.expect("resnet_skip_time_act", {false});
  json.expect("resnet_time_scale_shift", {"default"});
  json.expect("time_cond_proj_dim", {});  // guidance embedding of LCM-distilled UNets
  json.expect("time_embedding_act_fn", {});
  json.expect("time_embedding_type", {"positional"});
  json.expect("timestep_post_act", {});
  // upcast_attention: softmax and its sums are fp32 always.
  json.ignore({"addition_embed_type_num_heads", "dropout", "upcast_attention"});
}

// One entry of a depth list: an integer for all layers of the block, or one for each.
std::vector<int64_t> block_depths(const ConfigReader& json, std::string_view key,
                                  const JsonView& entry, int64_t num_layers) {
  const auto count = static_cast<size_t>(num_layers);
  if (!entry.value().is_array()) {
    return std::vector<int64_t>(count, entry.integer(0, kMaxLayers));
  }
  std::vector<int64_t> list = entry.integers(0, kMaxLayers);
  if (list.size() != count) {
    json.fail(key, fmt::format("got {} entries for a block of {} layers", list.size(), count));
  }
  return list;
}

Depths depths(ConfigReader& json, std::string_view key, const std::vector<int64_t>& layers,
              int64_t extra_layers) {
  Depths result;
  const std::optional<JsonView> value = json.find(key);
  if (value && value->value().is_array()) {
    const std::vector<JsonView> entries = value->items();
    if (entries.size() != layers.size()) {
      json.fail(key, fmt::format("got {} entries, wanted {} as in block_out_channels",
                                 entries.size(), layers.size()));
    }
    for (size_t i = 0; i < layers.size(); ++i) {
      result.push_back(block_depths(json, key, entries[i], layers[i] + extra_layers));
    }
    return result;
  }
  const int64_t depth = value ? value->integer(0, kMaxLayers) : 1;
  for (const int64_t n : layers) {
    result.emplace_back(static_cast<size_t>(n + extra_layers), depth);
  }
  return result;
}

// Depths of the up blocks, in the order of the levels. Configs list them in the order of the up
// blocks.
Depths up_depths(ConfigReader& json, const std::vector<int64_t>& layers) {
  constexpr std::string_view kKey = "reverse_transformer_layers_per_block";
  if (!json.find(kKey)) {
    const std::optional<JsonView> down = json.find("transformer_layers_per_block");
    if (down && down->value().is_array()) {
      for (const JsonView& entry : down->items()) {
        if (entry.value().is_array()) {
          json.fail(kKey, "is missing, but transformer_layers_per_block lists depths per layer");
        }
      }
    }
    return depths(json, "transformer_layers_per_block", layers, 1);
  }
  Depths result = depths(json, kKey, {layers.rbegin(), layers.rend()}, 1);
  std::ranges::reverse(result);
  return result;
}

// Whether each block has attention.
std::vector<char> attends(ConfigReader& json, std::string_view key, size_t count,
                          std::string_view plain, std::string_view with_attention) {
  std::vector<char> result;
  for (const std::string& type : json.text_list(key, count)) {
    if (type != plain && type != with_attention) {
      json.unsupported(
          key, fmt::format("got '{}', only {} and {} are supported", type, plain, with_attention));
    }
    result.push_back(type == with_attention ? 1 : 0);
  }
  return result;
}

// diffusers' historical naming: attention_head_dim is the number of heads, unless
// num_attention_heads says it.
std::vector<int64_t> heads(ConfigReader& json, const std::vector<int64_t>& channels) {
  const std::string_view key =
      json.find("num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
  json.ignore({"attention_head_dim"});
  std::vector<int64_t> list = json.per_level(key, 8, channels.size(), 1, kMaxChannels);
  for (size_t i = 0; i < list.size(); ++i) {
    if (channels[i] % list[i] != 0) {
      json.fail(
          key, fmt::format("got {} heads for {} channels, wanted a divisor", list[i], channels[i]));
    }
  }
  return list;
}

int64_t context_channels(ConfigReader& json, size_t num_levels) {
  const std::vector<int64_t> list =
      json.per_level("cross_attention_dim", 1280, num_levels, 1, kMaxChannels);
  if (std::ranges::any_of(list, [&](int64_t c) { return c != list.front(); })) {
    json.unsupported("cross_attention_dim",
                     "the blocks differ, only one context width is supported");
  }
  return list.front();
}

std::vector<UNetLevel> levels(ConfigReader& json, const std::vector<int64_t>& channels) {
  const size_t n = channels.size();
  const std::vector<char> down_attends =
      attends(json, "down_block_types", n, "DownBlock2D", "CrossAttnDownBlock2D");
  std::vector<char> up_attends =
      attends(json, "up_block_types", n, "UpBlock2D", "CrossAttnUpBlock2D");
  std::ranges::reverse(up_attends);  // up blocks are listed coarsest first
  const std::vector<int64_t> layers = json.per_level("layers_per_block", 2, n, 1, kMaxLayers);
  const std::vector<int64_t> num_heads = heads(json, channels);
  const Depths down = depths(json, "transformer_layers_per_block", layers, 0);
  const Depths up = up_depths(json, layers);

  std::vector<UNetLevel> result(n);
  for (size_t i = 0; i < n; ++i) {
    result[i] = {.channels = channels[i],
                 .num_layers = layers[i],
                 .heads = num_heads[i],
                 .down_transformers = {},
                 .up_transformers = {}};
    if (down_attends[i] != 0) result[i].down_transformers = down[i];
    if (up_attends[i] != 0) result[i].up_transformers = up[i];
  }
  return result;
}

int64_t mid_transformers(ConfigReader& json) {
  const std::optional<JsonView> value = json.find("transformer_layers_per_block");
  if (!value) return 1;
  if (!value->value().is_array()) return value->integer(0, kMaxLayers);
  const JsonView last = value->items().back();
  return last.value().is_array() ? last.items().front().integer(0, kMaxLayers)
                                 : last.integer(0, kMaxLayers);
}

std::optional<UNetAddEmbedding> add_embedding(ConfigReader& json) {
  json.expect("addition_embed_type", {"text_time"});
  json.ignore({"addition_time_embed_dim", "projection_class_embeddings_input_dim"});
  if (!json.find("addition_embed_type")) return std::nullopt;
  UNetAddEmbedding add;
  add.time_ids_channels = json.integer("addition_time_embed_dim", 0, 2, kMaxChannels);
  if (add.time_ids_channels < 2 || add.time_ids_channels % 2 != 0) {
    json.fail("addition_time_embed_dim",
              fmt::format("got {}, wanted an even number", add.time_ids_channels));
  }
  const int64_t ids = add.num_time_ids * add.time_ids_channels;
  const int64_t width = json.integer("projection_class_embeddings_input_dim", 0, 1, kMaxChannels);
  if (width <= ids) {
    json.fail("projection_class_embeddings_input_dim",
              fmt::format("got {}, wanted the pooled text width + {} time ids x {} = more than {}",
                          width, add.num_time_ids, add.time_ids_channels, ids));
  }
  add.pooled_channels = width - ids;
  return add;
}

void check_channels_in(ConfigReader& json, const UNetConfig& config) {
  if (config.in_channels == 9) {
    json.unsupported("in_channels", "got 9: inpainting models are not supported");
  }
  if (config.in_channels != config.out_channels) {
    json.unsupported("in_channels",
                     fmt::format("got {}, only as many as out_channels {} is supported",
                                 config.in_channels, config.out_channels));
  }
}

}  // namespace

UNetConfig unet_config(ConfigReader& json) {
  check_options(json);
  UNetConfig config;
  config.in_channels = json.integer("in_channels", 4, 1, kMaxChannels);
  config.out_channels = json.integer("out_channels", 4, 1, kMaxChannels);
  check_channels_in(json, config);
  config.sample_size = json.square_size("sample_size", 64);

  config.norm = {.groups = json.integer("norm_num_groups", 32, 1, kMaxChannels),
                 .eps = json.positive("norm_eps", 1e-5)};
  const std::vector<int64_t> channels = json.channel_list("block_out_channels");
  check_groups(json, "block_out_channels", channels, config.norm.groups);
  config.levels = levels(json, channels);
  config.context_channels = context_channels(json, channels.size());

  json.expect("mid_block_type", {"UNetMidBlock2DCrossAttn"});
  // An absent key means the default; only a written null leaves the block out.
  config.has_mid_block = !json.is_written_null("mid_block_type");
  config.mid_transformers = mid_transformers(json);
  config.use_linear_projection = json.boolean("use_linear_projection", false);

  config.flip_sin_to_cos = json.boolean("flip_sin_to_cos", true);
  config.freq_shift = json.number("freq_shift", 0.0);
  const int64_t half = channels.front() / 2;
  if (channels.front() % 2 != 0) {
    json.fail("block_out_channels", fmt::format("got {} first, wanted an even number for the "
                                                "timestep's sinusoids",
                                                channels.front()));
  }
  if (config.freq_shift < 0.0 || config.freq_shift >= static_cast<double>(half)) {
    json.fail("freq_shift", fmt::format("got {}, wanted 0 to below {}", config.freq_shift, half));
  }
  config.time_channels = json.integer("time_embedding_dim", 4 * channels.front(), 1, kMaxChannels);
  config.add_embedding = add_embedding(json);
  json.warn_of_unknown_keys();
  return config;
}

}  // namespace halftone::models
