#include "io/diffusers_tensors.h"

#include <algorithm>

#include <fmt/format.h>

namespace halftone::io {
namespace {

constexpr int64_t kMaxChannels = 1 << 20;

// The list under construction; names are given relative to a path.
class Weights {
 public:
  void linear(const std::string& path, int64_t out, int64_t in, bool bias = true) {
    matrix(path, Shape({out, in}), out, bias);
  }
  void conv(const std::string& path, int64_t out, int64_t in, int64_t kernel) {
    matrix(path, Shape({out, in, kernel, kernel}), out, true);
  }
  void norm(const std::string& path, int64_t channels) {
    list_.push_back({path + ".weight", Shape({channels}), Init::kOne});
    list_.push_back({path + ".bias", Shape({channels}), Init::kZero});
  }
  void table(const std::string& path, int64_t rows, int64_t columns) {
    list_.push_back({path + ".weight", Shape({rows, columns}), Init::kNormal});
  }
  [[nodiscard]] std::vector<WeightSpec> take() { return std::move(list_); }

 private:
  void matrix(const std::string& path, Shape shape, int64_t out, bool bias) {
    list_.push_back({path + ".weight", std::move(shape), Init::kNormal});
    if (bias) list_.push_back({path + ".bias", Shape({out}), Init::kZero});
  }
  std::vector<WeightSpec> list_;
};

// ResnetBlock2D; time_channels 0 for the VAE's, which know no time.
void resnet(Weights& w, const std::string& path, int64_t in, int64_t out, int64_t time_channels) {
  w.norm(path + ".norm1", in);
  w.conv(path + ".conv1", out, in, 3);
  if (time_channels > 0) w.linear(path + ".time_emb_proj", out, time_channels);
  w.norm(path + ".norm2", out);
  w.conv(path + ".conv2", out, out, 3);
  if (in != out) w.conv(path + ".conv_shortcut", out, in, 1);
}

void attention(Weights& w, const std::string& path, int64_t channels, int64_t context, bool bias) {
  w.linear(path + ".to_q", channels, channels, bias);
  w.linear(path + ".to_k", channels, context, bias);
  w.linear(path + ".to_v", channels, context, bias);
  w.linear(path + ".to_out.0", channels, channels);
}

struct TransformerShape {
  int64_t channels, context, depth;
  bool linear_projection;
};

// Transformer2DModel with BasicTransformerBlocks.
void transformer(Weights& w, const std::string& path, const TransformerShape& s) {
  const auto projection = [&](const std::string& name) {
    if (s.linear_projection) {
      w.linear(path + name, s.channels, s.channels);
    } else {
      w.conv(path + name, s.channels, s.channels, 1);
    }
  };
  w.norm(path + ".norm", s.channels);
  projection(".proj_in");
  for (int64_t i = 0; i < s.depth; ++i) {
    const std::string block = fmt::format("{}.transformer_blocks.{}", path, i);
    w.norm(block + ".norm1", s.channels);
    attention(w, block + ".attn1", s.channels, s.channels, false);
    w.norm(block + ".norm2", s.channels);
    attention(w, block + ".attn2", s.channels, s.context, false);
    w.norm(block + ".norm3", s.channels);
    w.linear(block + ".ff.net.0.proj", 8 * s.channels, s.channels);  // GEGLU: twice the inner width
    w.linear(block + ".ff.net.2", s.channels, 4 * s.channels);
  }
  projection(".proj_out");
}

struct UNetShape {
  std::vector<int64_t> channels, depths;  // by level, the finest first
  std::vector<bool> down_attention, up_attention;
  int64_t layers, context, time_channels;
  bool linear_projection;
};

std::vector<bool> has_attention(const JsonView& types) {
  std::vector<bool> out;
  for (const std::string& type : types.strings()) out.push_back(type.starts_with("CrossAttn"));
  return out;
}

UNetShape read_unet(const JsonView& config) {
  UNetShape s;
  s.channels = config.at("block_out_channels").integers(1, kMaxChannels);
  s.layers = config.at("layers_per_block").integer(1, 100);
  s.context = config.at("cross_attention_dim").integer(1, kMaxChannels);
  s.linear_projection = config.boolean_or("use_linear_projection", false);
  s.down_attention = has_attention(config.at("down_block_types"));
  s.up_attention = has_attention(config.at("up_block_types"));
  s.depths.assign(s.channels.size(), 1);
  if (const auto depths = config.find("transformer_layers_per_block")) {
    s.depths = depths->value().is_array()
                   ? depths->integers(1, 100)
                   : std::vector<int64_t>(s.channels.size(), depths->integer(1, 100));
  }
  const size_t n = s.channels.size();
  if (n == 0 || s.depths.size() != n || s.down_attention.size() != n ||
      s.up_attention.size() != n) {
    config.fail("lists of the blocks' settings have different lengths");
  }
  s.time_channels = 4 * s.channels.front();
  return s;
}

void down_blocks(Weights& w, const UNetShape& s) {
  int64_t in = s.channels.front();
  for (size_t i = 0; i < s.channels.size(); ++i) {
    const int64_t out = s.channels[i];
    const std::string block = fmt::format("down_blocks.{}", i);
    for (int64_t j = 0; j < s.layers; ++j) {
      resnet(w, fmt::format("{}.resnets.{}", block, j), j == 0 ? in : out, out, s.time_channels);
      if (s.down_attention[i]) {
        transformer(w, fmt::format("{}.attentions.{}", block, j),
                    {out, s.context, s.depths[i], s.linear_projection});
      }
    }
    if (i + 1 < s.channels.size()) w.conv(block + ".downsamplers.0.conv", out, out, 3);
    in = out;
  }
}

// Each layer's input is the concatenation of the layer before and a skip of the mirrored down
// block.
void up_blocks(Weights& w, const UNetShape& s) {
  const size_t n = s.channels.size();
  int64_t before = s.channels.back();
  for (size_t i = 0; i < n; ++i) {
    const size_t level = n - 1 - i;
    const int64_t out = s.channels[level];
    const int64_t last_skip = s.channels[level == 0 ? 0 : level - 1];
    const std::string block = fmt::format("up_blocks.{}", i);
    for (int64_t j = 0; j <= s.layers; ++j) {
      const int64_t in = (j == 0 ? before : out) + (j == s.layers ? last_skip : out);
      resnet(w, fmt::format("{}.resnets.{}", block, j), in, out, s.time_channels);
      if (s.up_attention[i]) {
        transformer(w, fmt::format("{}.attentions.{}", block, j),
                    {out, s.context, s.depths[level], s.linear_projection});
      }
    }
    if (level > 0) w.conv(block + ".upsamplers.0.conv", out, out, 3);
    before = out;
  }
}

std::vector<WeightSpec> unet(const JsonView& config) {
  const UNetShape s = read_unet(config);
  const int64_t first = s.channels.front();
  const int64_t last = s.channels.back();
  Weights w;
  w.conv("conv_in", first, config.at("in_channels").integer(1, 64), 3);
  w.linear("time_embedding.linear_1", s.time_channels, first);
  w.linear("time_embedding.linear_2", s.time_channels, s.time_channels);
  if (config.string_or("addition_embed_type", "") == "text_time") {
    const int64_t in = config.at("projection_class_embeddings_input_dim").integer(1, kMaxChannels);
    w.linear("add_embedding.linear_1", s.time_channels, in);
    w.linear("add_embedding.linear_2", s.time_channels, s.time_channels);
  }
  down_blocks(w, s);
  resnet(w, "mid_block.resnets.0", last, last, s.time_channels);
  transformer(w, "mid_block.attentions.0", {last, s.context, s.depths.back(), s.linear_projection});
  resnet(w, "mid_block.resnets.1", last, last, s.time_channels);
  up_blocks(w, s);
  w.norm("conv_norm_out", first);
  w.conv("conv_out", config.at("out_channels").integer(1, 64), first, 3);
  return w.take();
}

void vae_mid(Weights& w, const std::string& path, int64_t channels) {
  resnet(w, path + ".resnets.0", channels, channels, 0);
  w.norm(path + ".attentions.0.group_norm", channels);
  attention(w, path + ".attentions.0", channels, channels, true);
  resnet(w, path + ".resnets.1", channels, channels, 0);
}

std::vector<WeightSpec> vae(const JsonView& config) {
  const auto channels = config.at("block_out_channels").integers(1, kMaxChannels);
  if (channels.empty()) config.fail("'block_out_channels' is empty");
  const int64_t layers = config.at("layers_per_block").integer(1, 100);
  const int64_t latent = config.at("latent_channels").integer(1, 64);
  const size_t n = channels.size();
  Weights w;
  w.conv("encoder.conv_in", channels.front(), config.at("in_channels").integer(1, 64), 3);
  for (size_t i = 0; i < n; ++i) {
    const std::string block = fmt::format("encoder.down_blocks.{}", i);
    for (int64_t j = 0; j < layers; ++j) {
      resnet(w, fmt::format("{}.resnets.{}", block, j), channels[j == 0 && i > 0 ? i - 1 : i],
             channels[i], 0);
    }
    if (i + 1 < n) w.conv(block + ".downsamplers.0.conv", channels[i], channels[i], 3);
  }
  vae_mid(w, "encoder.mid_block", channels.back());
  w.norm("encoder.conv_norm_out", channels.back());
  w.conv("encoder.conv_out", 2 * latent, channels.back(), 3);
  w.conv("quant_conv", 2 * latent, 2 * latent, 1);
  w.conv("post_quant_conv", latent, latent, 1);
  w.conv("decoder.conv_in", channels.back(), latent, 3);
  vae_mid(w, "decoder.mid_block", channels.back());
  for (size_t i = 0; i < n; ++i) {
    const size_t level = n - 1 - i;
    const std::string block = fmt::format("decoder.up_blocks.{}", i);
    for (int64_t j = 0; j <= layers; ++j) {
      resnet(w, fmt::format("{}.resnets.{}", block, j),
             channels[j == 0 && i > 0 ? level + 1 : level], channels[level], 0);
    }
    if (level > 0) w.conv(block + ".upsamplers.0.conv", channels[level], channels[level], 3);
  }
  w.norm("decoder.conv_norm_out", channels.front());
  w.conv("decoder.conv_out", config.at("out_channels").integer(1, 64), channels.front(), 3);
  return w.take();
}

std::vector<WeightSpec> clip_text(const JsonView& config, bool with_projection) {
  const int64_t channels = config.at("hidden_size").integer(1, kMaxChannels);
  const int64_t inner = config.at("intermediate_size").integer(1, kMaxChannels);
  Weights w;
  w.table("text_model.embeddings.token_embedding", config.at("vocab_size").integer(1, kMaxChannels),
          channels);
  w.table("text_model.embeddings.position_embedding",
          config.at("max_position_embeddings").integer(1, kMaxChannels), channels);
  const int64_t layers = config.at("num_hidden_layers").integer(1, 1000);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = fmt::format("text_model.encoder.layers.{}", i);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      w.linear(fmt::format("{}.self_attn.{}", layer, name), channels, channels);
    }
    w.norm(layer + ".layer_norm1", channels);
    w.linear(layer + ".mlp.fc1", inner, channels);
    w.linear(layer + ".mlp.fc2", channels, inner);
    w.norm(layer + ".layer_norm2", channels);
  }
  w.norm("text_model.final_layer_norm", channels);
  if (with_projection) {
    w.linear("text_projection", config.at("projection_dim").integer(1, kMaxChannels), channels,
             false);
  }
  return w.take();
}

}  // namespace

std::vector<WeightSpec> diffusers_tensors(std::string_view component, const JsonView& config) {
  if (component == "unet") return unet(config);
  if (component == "vae") return vae(config);
  check_internal(component.starts_with("text_encoder"), "diffusers_tensors: unknown component");
  return clip_text(config, component == "text_encoder_2");
}

}  // namespace halftone::io
