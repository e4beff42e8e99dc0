// Every component against diffusers and transformers, fp32, on the tiny checkpoints of
// tests/golden.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "models/check_weights.h"
#include "models/clip_text.h"
#include "models/denoise_step.h"
#include "models/registry.h"
#include "models/vae.h"
#include "reference/reference.h"
#include "tensor/step_coefficients.h"

namespace halftone::models {
namespace {

using Tensors = std::map<std::string, Tensor>;

const std::string kRoot = HALFTONE_SOURCE_DIR "/";
// Relative L2. Both sides compute in fp32 or better; measured: below 1e-6.
constexpr double kTolerance = 1e-5;
// Larger latents would keep the scalar reference busy for too long.
constexpr int64_t kMaxPositions = 512;

// A checkpoint, with the numbers recorded for it by scripts/golden.
struct Source {
  std::string name;
  std::string checkpoint;
  std::string numbers;
  std::string variant;  // of a UNet and a VAE that stand in for the checkpoint's
};

void PrintTo(const Source& source, std::ostream* out) { *out << source.name; }

Source tiny(const std::string& name, const std::string& folder) {
  return {name, folder, folder + "/golden/components.safetensors", ""};
}

Source variant(const std::string& name, const std::string& folder) {
  return {name, "tests/golden/tiny-sdxl", folder + "/golden/components.safetensors", folder};
}

io::OpenOptions open_options(const Source& source) {
  io::OpenOptions options;
  if (!source.variant.empty()) {
    for (const std::string component : {"unet", "vae"}) {
      options.component_folders[component] = kRoot + source.variant + "/" + component;
    }
  }
  return options;
}

class Golden {
 public:
  explicit Golden(const Source& source)
      : checkpoint_(io::Checkpoint::open(kRoot + source.checkpoint, open_options(source))),
        numbers_(kRoot + source.numbers) {}

  [[nodiscard]] const io::Checkpoint& checkpoint() const { return *checkpoint_; }
  [[nodiscard]] const WeightSource& weights() const { return *checkpoint_; }
  [[nodiscard]] JsonView config(const std::string& component) const {
    return checkpoint_->config(component);
  }
  [[nodiscard]] bool has(const std::string& name) const { return numbers_.find(name) != nullptr; }

  [[nodiscard]] Tensor tensor(const std::string& name) const {
    const io::SafetensorsEntry* entry = numbers_.find(name);
    if (entry == nullptr) throw Error(Errc::kNotFound, name);
    Tensor result(entry->type(name));
    (void)numbers_.read(*entry, 0, static_cast<uint64_t>(result.shape().num_elements()),
                        result.type().dtype, result.data());
    return result;
  }

 private:
  std::shared_ptr<const io::Checkpoint> checkpoint_;
  io::SafetensorsFile numbers_;
};

// torch's [n, c, h, w] as our [n, h, w, c].
Tensor to_channels_last(const Tensor& x) {
  const Shape s = x.shape();
  Tensor y({DType::kF32, {s[0], s[2], s[3], s[1]}});
  const auto in = x.values<float>();
  const auto out = y.values<float>();
  size_t next = 0;
  for (int64_t n = 0; n < s[0]; ++n) {
    for (int64_t i = 0; i < s[2] * s[3]; ++i) {
      for (int64_t c = 0; c < s[1]; ++c) {
        out[next++] = in[static_cast<size_t>((n * s[1] + c) * s[2] * s[3] + i)];
      }
    }
  }
  return y;
}

Tensor mapped(const Tensor& x, const std::function<float(float)>& f) {
  Tensor y = x.clone();
  for (float& v : y.values<float>()) v = f(v);
  return y;
}

double relative_error(const Tensor& got, const Tensor& wanted) {
  EXPECT_EQ(got.type(), wanted.type());
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < wanted.values<float>().size(); ++i) {
    const double w = static_cast<double>(wanted.values<float>()[i]);
    const double d = static_cast<double>(got.values<float>()[i]) - w;
    difference += d * d;
    norm += w * w;
  }
  return std::sqrt(difference / norm);
}

void expect_close(const Tensor& got, const Tensor& wanted, const std::string& what) {
  const double error = relative_error(got, wanted);
  testing::Test::RecordProperty(what, fmt::format("{:.2e}", error));
  EXPECT_LE(error, kTolerance) << what;
}

class GoldenTest : public testing::TestWithParam<Source> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kRoot + GetParam().numbers)) {
      GTEST_SKIP() << GetParam().numbers << " is not there yet";
    }
    data_.emplace(GetParam());
  }
  [[nodiscard]] const Golden& data() const { return *data_; }

 private:
  std::optional<Golden> data_;
};

// Position of the first end-of-text token of each row.
Tensor eos_index(const Tensor& ids, int64_t eos) {
  const auto rows = static_cast<size_t>(ids.shape()[0]);
  const auto width = static_cast<size_t>(ids.shape()[1]);
  Tensor index({DType::kI32, {ids.shape()[0]}});
  for (size_t row = 0; row < rows; ++row) {
    const auto values = ids.values<int32_t>().subspan(row * width, width);
    index.values<int32_t>()[row] =
        static_cast<int32_t>(std::ranges::find(values, static_cast<int32_t>(eos)) - values.begin());
  }
  return index;
}

TEST_P(GoldenTest, TextEncoders) {
  for (const std::string component : {"text_encoder", "text_encoder_2"}) {
    if (!data().has(component + ".ids")) continue;
    const JsonView json = data().config(component);
    ConfigReader reader(json);
    const bool with_projection = class_name_of(json.value()) == "CLIPTextModelWithProjection";
    const ClipTextConfig config = clip_text_config(reader, with_projection);
    const Tensor ids = data().tensor(component + ".ids");
    const BuildShape shape{.batch = ids.shape()[0], .text_tokens = ids.shape()[1]};
    const auto run = [&](const BuildOptions& options) {
      Tensors inputs;
      inputs["input_ids"] = ids.clone();
      if (with_projection) inputs["eos_index"] = eos_index(ids, config.eos_token);
      return reference::evaluate(build_clip_text(component, config, shape, options), inputs,
                                 data().weights());
    };
    const Tensors last = run({});
    if (data().has(component + ".last_hidden_state")) {
      expect_close(last.at("hidden"), data().tensor(component + ".last_hidden_state"),
                   component + "_last");
    }
    const Tensors penultimate = run({.text_layers_skipped = 1, .text_final_norm = false});
    expect_close(penultimate.at("hidden"), data().tensor(component + ".penultimate"),
                 component + "_penultimate");
    if (with_projection) {
      expect_close(last.at("pooled"), data().tensor(component + ".text_embeds"),
                   component + "_pooled");
    }
  }
}

TEST_P(GoldenTest, CheckpointHoldsExactlyTheWeights) {
  for (const std::string component : {"text_encoder", "text_encoder_2", "unet", "vae"}) {
    if (!data().checkpoint().has_component(component)) continue;
    const JsonView config = data().config(component);
    EXPECT_NO_THROW(check_weights(component, class_name_of(config.value()), config,
                                  data().weights(), data().checkpoint().tensor_names(component)))
        << component;
  }
}

TEST(GoldenSingleFile, HoldsExactlyTheWeights) {
  io::OpenOptions options;
  options.config_folder = kRoot + "tests/golden/tiny-sdxl";
  const auto checkpoint =
      io::Checkpoint::open(kRoot + "tests/golden/tiny-sdxl-single/tiny_sdxl.safetensors", options);
  for (const std::string component : {"text_encoder", "text_encoder_2", "unet", "vae"}) {
    const JsonView config = checkpoint->config(component);
    EXPECT_NO_THROW(check_weights(component, class_name_of(config.value()), config, *checkpoint,
                                  checkpoint->tensor_names(component)))
        << component;
  }
}

UNetConfig unet_config_of(const Golden& data) {
  ConfigReader reader(data.config("unet"));
  return unet_config(reader);
}

Tensor joined(const Tensor& a, const Tensor& b) {  // along the last axis
  Shape shape = a.shape();
  shape[-1] += b.shape()[-1];
  Tensor y({DType::kF32, shape});
  auto out = y.values<float>().begin();
  for (int64_t row = 0; row < shape.num_rows(); ++row) {
    for (const Tensor* part : {&a, &b}) {
      const auto width = static_cast<size_t>(part->shape().row_size());
      out = std::ranges::copy(
                part->values<float>().subspan(static_cast<size_t>(row) * width, width), out)
                .out;
    }
  }
  return y;
}

// The conditioning of a recorded row; rows without their own use the recorded prompt.
Tensors conditioning(const Golden& data, const std::string& key, bool is_xl) {
  Tensors inputs;
  inputs["timestep"] = Tensor::from({1}, data.tensor(key + ".timestep").values<float>().first(1));
  if (data.has(key + ".context")) {
    inputs["encoder_hidden_states"] = data.tensor(key + ".context");
    if (is_xl) {
      inputs["text_embeds"] = data.tensor(key + ".text_embeds");
      inputs["time_ids"] = data.tensor(key + ".time_ids");
    }
    return inputs;
  }
  inputs["encoder_hidden_states"] =
      joined(data.tensor("text_encoder.penultimate"), data.tensor("text_encoder_2.penultimate"));
  inputs["text_embeds"] = data.tensor("text_encoder_2.text_embeds");
  inputs["time_ids"] = data.tensor("unet.time_ids");
  return inputs;
}

TEST_P(GoldenTest, UNet) {
  const UNetConfig config = unet_config_of(data());
  for (int n = 0; data().has(fmt::format("unet.{}.out", n)); ++n) {
    const std::string key = fmt::format("unet.{}", n);
    Tensors inputs = conditioning(data(), key, config.add_embedding.has_value());
    const Tensor sample = to_channels_last(data().tensor(key + ".sample"));
    const Shape s = sample.shape();
    if (s[1] * s[2] > kMaxPositions) continue;
    inputs["sample"] = sample.clone();
    const BuildShape shape{.batch = s[0],
                           .height = s[1],
                           .width = s[2],
                           .text_tokens = inputs["encoder_hidden_states"].shape()[1]};
    const Tensors outputs =
        reference::evaluate(build_unet(config, shape, {}), inputs, data().weights());
    expect_close(outputs.at("model_output"), to_channels_last(data().tensor(key + ".out")),
                 fmt::format("unet_{}", n));
  }
}

// The narrow compute types give the same picture, rounded: errors of many layers add up to some
// multiples of the spacing, 2^-10 for f16 and 2^-7 for bf16.
TEST_P(GoldenTest, UNetInNarrowTypes) {
  const UNetConfig config = unet_config_of(data());
  Tensors inputs = conditioning(data(), "unet.1", config.add_embedding.has_value());
  inputs["sample"] = to_channels_last(data().tensor("unet.1.sample"));
  const Shape s = inputs["sample"].shape();
  const BuildShape shape{.batch = s[0],
                         .height = s[1],
                         .width = s[2],
                         .text_tokens = inputs["encoder_hidden_states"].shape()[1]};
  const Tensor wanted = to_channels_last(data().tensor("unet.1.out"));
  for (const auto& [dtype, spacing] : {std::pair{DType::kF16, 0x1p-10}, {DType::kBF16, 0x1p-7}}) {
    const Tensors outputs = reference::evaluate(build_unet(config, shape, {.compute_dtype = dtype}),
                                                inputs, data().weights());
    const double error = relative_error(outputs.at("model_output"), wanted);
    RecordProperty(fmt::format("unet_{}", to_string(dtype)), fmt::format("{:.2e}", error));
    EXPECT_LE(error, 4.0 * spacing) << to_string(dtype);
    EXPECT_GE(error, 1e-6) << "computed in f32";
  }
}

// One step with guidance around the recorded batch of two: the halves are one image's unconditional
// and conditional run, up to their samples, which the step makes equal. So run the bare model on
// that, and combine by hand.
TEST_P(GoldenTest, DenoiseStep) {
  const UNetConfig config = unet_config_of(data());
  if (data().tensor("unet.1.sample").shape()[0] != 2) GTEST_SKIP() << "no batch of two recorded";
  Tensors inputs = conditioning(data(), "unet.1", config.add_embedding.has_value());
  const Tensor recorded = to_channels_last(data().tensor("unet.1.sample"));
  const Shape s = recorded.shape();
  const auto size = static_cast<size_t>(s[1] * s[2] * s[3]);
  const auto latent = recorded.values<float>().first(size);
  const BuildShape shape{.batch = 1,
                         .height = s[1],
                         .width = s[2],
                         .text_tokens = inputs["encoder_hidden_states"].shape()[1],
                         .cfg = true};

  StepCoefficients coefficients{.input_scale = 0.5F, .guidance = 3.0F};
  coefficients.update[0][0] = 0.9F;  // next sample = .9 sample - .2 output + .1 noise
  coefficients.update[0][kMaxState] = -0.2F;
  coefficients.update[0][kMaxState + 1] = 0.1F;
  coefficients.update[1][kMaxState] = 1.0F;  // history = output
  Tensor state = Tensor::zeros({DType::kF32, {kMaxState, 1, s[1], s[2], s[3]}});
  std::ranges::copy(latent, state.values<float>().begin());
  Tensor noise({DType::kF32, {1, s[1], s[2], s[3]}});
  std::ranges::copy(recorded.values<float>().subspan(size, size), noise.values<float>().begin());
  Tensor table({DType::kF32, {kNumStepCoefficients}});
  std::memcpy(table.data(), &coefficients, sizeof(coefficients));

  Tensor sample({DType::kF32, s});
  for (size_t i = 0; i < 2 * size; ++i) sample.values<float>()[i] = 0.5F * latent[i % size];
  inputs["sample"] = sample.clone();
  Tensors bare = reference::evaluate(build_unet(config, shape, {}), inputs, data().weights());
  const auto halves = bare.at("model_output").values<float>();
  Tensor guided({DType::kF32, noise.shape()});
  Tensor next = Tensor::zeros(state.type());
  for (size_t i = 0; i < size; ++i) {
    const float y = halves[i] + 3.0F * (halves[size + i] - halves[i]);
    guided.values<float>()[i] = y;
    next.values<float>()[i] = 0.9F * latent[i] - 0.2F * y + 0.1F * noise.values<float>()[i];
    next.values<float>()[size + i] = y;
  }

  inputs.erase("sample");
  inputs["state"] = state.clone();
  inputs["noise"] = noise.clone();
  inputs["coefficients"] = table.clone();
  const Tensors outputs =
      reference::evaluate(build_denoise_step(config, shape, {}), inputs, data().weights());
  EXPECT_LE(relative_error(outputs.at("model_output"), guided), 1e-6);
  EXPECT_LE(relative_error(outputs.at("state"), next), 1e-6);
}

TEST_P(GoldenTest, Vae) {
  ConfigReader reader(data().config("vae"));
  const VaeConfig config = vae_config(reader);
  const auto scale = static_cast<float>(config.scaling_factor);
  for (int n = 0; data().has(fmt::format("vae.decode.{}.latent", n)); ++n) {
    const std::string decode = fmt::format("vae.decode.{}", n);
    const std::string encode = fmt::format("vae.encode.{}", n);
    const auto to_unit = [](float v) { return std::clamp(0.5F * v + 0.5F, 0.0F, 1.0F); };
    const Tensor z = to_channels_last(data().tensor(decode + ".latent"));
    const BuildShape shape{.batch = z.shape()[0], .height = z.shape()[1], .width = z.shape()[2]};

    Tensors latent;
    latent["latent"] = mapped(z, [&](float v) { return v * scale; });
    const Tensors decoded =
        reference::evaluate(build_vae_decoder(config, shape, {}), latent, data().weights());
    expect_close(decoded.at("image"),
                 mapped(to_channels_last(data().tensor(decode + ".image")), to_unit),
                 fmt::format("vae_decode_{}", n));

    Tensors image;
    image["image"] = mapped(to_channels_last(data().tensor(encode + ".image")), to_unit);
    const Tensors encoded =
        reference::evaluate(build_vae_encoder(config, shape, {}), image, data().weights());
    expect_close(encoded.at("mean"), to_channels_last(data().tensor(encode + ".mean")),
                 fmt::format("vae_encode_mean_{}", n));
    expect_close(encoded.at("logvar"), to_channels_last(data().tensor(encode + ".logvar")),
                 fmt::format("vae_encode_logvar_{}", n));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Components, GoldenTest,
    testing::Values(tiny("TinySdxl", "tests/golden/tiny-sdxl"),
                    tiny("TinySd15", "tests/golden/tiny-sd15"),
                    variant("PerLevel", "tests/golden/model-variants/per-level"),
                    variant("Plain", "tests/golden/model-variants/plain"),
                    Source{"EmojiXl", "models/emoji-xl",
                           "tests/golden/emoji-xl/components.safetensors", ""}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace halftone::models
