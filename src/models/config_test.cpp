// Every value and option of a config that must be refused, with the key in the message.
#include <functional>

#include <gtest/gtest.h>

#include "base/file.h"
#include "models/registry.h"

namespace halftone::models {
namespace {

struct Case {
  std::string component;
  std::string key;
  std::string json;  // text of the value
  Errc code;
  std::string says;  // substring of the message beside file and key
};

Json golden_config(const std::string& checkpoint, const std::string& component) {
  const std::string file =
      HALFTONE_SOURCE_DIR "/tests/golden/" + checkpoint + "/" + component + "/config.json";
  return parse_json(read_text_file(file), file);
}

std::string folder_of(const std::string& component) {
  return component.starts_with("vae") ? "vae" : component;
}

graph::Graph build_golden(const std::string& component, const Json& config,
                          const Logger& logger = {}) {
  const std::string file = folder_of(component) + "/config.json";
  return build(component, class_name_of(config), JsonView(config, file),
               {.batch = 1, .height = 8, .width = 8, .text_tokens = 7, .cfg = true}, {}, logger);
}

class RefusedConfig : public testing::TestWithParam<Case> {};

TEST_P(RefusedConfig, NamesFileAndKey) {
  const Case& c = GetParam();
  Json config = golden_config("tiny-sdxl", folder_of(c.component));
  config.set(c.key, parse_json(c.json, "value"));
  try {
    (void)build_golden(c.component, config);
    FAIL() << c.key << " = " << c.json << " was accepted";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), c.code) << message;
    EXPECT_TRUE(message.starts_with(folder_of(c.component) + "/config.json: key '" + c.key))
        << message;
    EXPECT_NE(message.find(c.says), std::string::npos) << message;
  }
}

constexpr Errc kBad = Errc::kCorruptFile;
constexpr Errc kNo = Errc::kUnsupported;

INSTANTIATE_TEST_SUITE_P(
    UNet, RefusedConfig,
    testing::Values(
        Case{"unet", "block_out_channels", "[]", kBad, "0 entries"},
        Case{"unet", "block_out_channels", "null", kBad, "missing"},
        Case{"unet", "block_out_channels", "[1000000000, 16, 24]", kBad, "1000000000"},
        Case{"unet", "block_out_channels", "[16, 20, 24]", kBad, "norm_num_groups 8"},
        Case{"unet", "block_out_channels", "[0, 16, 24]", kBad, "0"},
        Case{"unet", "block_out_channels", "\"16\"", kBad, "string"},
        Case{"unet", "attention_head_dim", "0", kBad, "0"},
        Case{"unet", "attention_head_dim", "[1, 2]", kBad, "2 entries"},
        Case{"unet", "attention_head_dim", "5", kBad, "divisor"},
        Case{"unet", "attention_head_dim", "2.5", kBad, "integer"},
        Case{"unet", "num_attention_heads", "[1, 2, 7]", kBad, "divisor"},
        Case{"unet", "layers_per_block", "-1", kBad, "-1"},
        Case{"unet", "layers_per_block", "0", kBad, "0"},
        Case{"unet", "layers_per_block", "[2, 2]", kBad, "2 entries"},
        Case{"unet", "layers_per_block", "1000000000", kBad, "1000000000"},
        Case{"unet", "in_channels", "9", kNo, "inpainting"},
        Case{"unet", "in_channels", "8", kNo, "out_channels 4"},
        Case{"unet", "in_channels", "0", kBad, "0"}, Case{"unet", "sample_size", "0", kBad, "0"},
        Case{"unet", "sample_size", "[8, 16]", kBad, "equal"},
        Case{"unet", "norm_num_groups", "0", kBad, "0"},
        Case{"unet", "norm_eps", "-1.0", kBad, "above 0"},
        Case{"unet", "cross_attention_dim", "0", kBad, "0"},
        Case{"unet", "cross_attention_dim", "[56, 56, 64]", kNo, "differ"},
        Case{"unet", "down_block_types", "[\"DownBlock2D\"]", kBad, "1 entries"},
        Case{"unet", "down_block_types",
             "[\"DownBlock2D\", \"AttnDownBlock2D\", \"CrossAttnDownBlock2D\"]", kNo,
             "AttnDownBlock2D"},
        Case{"unet", "up_block_types", "[\"UpBlock2D\", \"UpBlock2D\", \"SkipUpBlock2D\"]", kNo,
             "SkipUpBlock2D"},
        Case{"unet", "transformer_layers_per_block", "[1, 1]", kBad, "2 entries"},
        Case{"unet", "transformer_layers_per_block", "-1", kBad, "-1"},
        Case{"unet", "transformer_layers_per_block", "[1, [1, 1, 1], 2]", kBad, "3 entries"},
        Case{"unet", "reverse_transformer_layers_per_block", "[1]", kBad, "1 entries"},
        Case{"unet", "mid_block_type", "\"UNetMidBlock2DSimpleCrossAttn\"", kNo, "Simple"},
        Case{"unet", "freq_shift", "8", kBad, "below 8"},
        Case{"unet", "time_embedding_dim", "0", kBad, "0"},
        Case{"unet", "addition_embed_type", "\"image\"", kNo, "text_time"},
        Case{"unet", "addition_time_embed_dim", "7", kBad, "even"},
        Case{"unet", "addition_time_embed_dim", "null", kBad, "even"},
        Case{"unet", "projection_class_embeddings_input_dim", "48", kBad, "time ids"},
        Case{"unet", "act_fn", "\"mish\"", kNo, "silu"}));

INSTANTIATE_TEST_SUITE_P(
    UNetOptions, RefusedConfig,
    testing::Values(Case{"unet", "attention_type", "\"gated\"", kNo, "gated"},
                    Case{"unet", "center_input_sample", "true", kNo, "false"},
                    Case{"unet", "class_embed_type", "\"timestep\"", kNo, "timestep"},
                    Case{"unet", "class_embeddings_concat", "true", kNo, "true"},
                    Case{"unet", "conv_in_kernel", "1", kNo, "3"},
                    Case{"unet", "conv_out_kernel", "1", kNo, "3"},
                    Case{"unet", "cross_attention_norm", "\"layer_norm\"", kNo, "layer_norm"},
                    Case{"unet", "downsample_padding", "0", kNo, "1"},
                    Case{"unet", "dual_cross_attention", "true", kNo, "true"},
                    Case{"unet", "encoder_hid_dim", "64", kNo, "64"},
                    Case{"unet", "encoder_hid_dim_type", "\"text_proj\"", kNo, "text_proj"},
                    Case{"unet", "mid_block_only_cross_attention", "true", kNo, "true"},
                    Case{"unet", "mid_block_scale_factor", "1.4", kNo, "1.4"},
                    Case{"unet", "num_class_embeds", "10", kNo, "10"},
                    Case{"unet", "only_cross_attention", "true", kNo, "true"},
                    Case{"unet", "resnet_out_scale_factor", "1.5", kNo, "1.5"},
                    Case{"unet", "resnet_skip_time_act", "true", kNo, "true"},
                    Case{"unet", "resnet_time_scale_shift", "\"scale_shift\"", kNo, "scale_shift"},
                    Case{"unet", "time_cond_proj_dim", "256", kNo, "256"},
                    Case{"unet", "time_embedding_act_fn", "\"silu\"", kNo, "silu"},
                    Case{"unet", "time_embedding_type", "\"fourier\"", kNo, "fourier"},
                    Case{"unet", "timestep_post_act", "\"silu\"", kNo, "silu"}));

INSTANTIATE_TEST_SUITE_P(
    Vae, RefusedConfig,
    testing::Values(Case{"vae_decoder", "block_out_channels", "[]", kBad, "0 entries"},
                    Case{"vae_decoder", "block_out_channels", "[8, 8, 13, 16]", kBad, "13"},
                    Case{"vae_decoder", "down_block_types", "[\"DownEncoderBlock2D\"]", kBad,
                         "1 entries"},
                    Case{"vae_encoder", "layers_per_block", "-1", kBad, "-1"},
                    Case{"vae_decoder", "latent_channels", "0", kBad, "0"},
                    Case{"vae_decoder", "scaling_factor", "0", kBad, "above 0"},
                    Case{"vae_decoder", "scaling_factor", "\"NaN\"", kBad, "string"},
                    Case{"vae_decoder", "norm_num_groups", "0", kBad, "0"},
                    Case{"vae_decoder", "sample_size", "0", kBad, "0"},
                    Case{"vae_decoder", "in_channels", "4", kNo, "3"},
                    Case{"vae_decoder", "latents_mean", "[0.1]", kNo, "0.1"},
                    Case{"vae_decoder", "latents_std", "[0.1]", kNo, "0.1"},
                    Case{"vae_decoder", "act_fn", "\"relu\"", kNo, "relu"},
                    Case{"vae_decoder", "force_upcast", "1", kBad, "boolean"}));

INSTANTIATE_TEST_SUITE_P(
    ClipText, RefusedConfig,
    testing::Values(Case{"text_encoder", "hidden_size", "0", kBad, "0"},
                    Case{"text_encoder", "num_attention_heads", "0", kBad, "0"},
                    Case{"text_encoder", "num_attention_heads", "7", kBad, "divisor"},
                    Case{"text_encoder", "num_hidden_layers", "-1", kBad, "-1"},
                    Case{"text_encoder", "vocab_size", "1000000000", kBad, "1000000000"},
                    Case{"text_encoder", "max_position_embeddings", "0", kBad, "0"},
                    Case{"text_encoder", "hidden_act", "\"relu\"", kNo, "relu"},
                    Case{"text_encoder", "layer_norm_eps", "0.0", kBad, "above 0"},
                    Case{"text_encoder", "eos_token_id", "-1", kBad, "-1"},
                    Case{"text_encoder_2", "projection_dim", "0", kBad, "0"}));

Errc code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return Errc::kInternal;
}

TEST(Config, AcceptsTheGoldenOnesSilently) {
  int num_messages = 0;
  const Logger count = [&](LogLevel, std::string_view, std::string_view) { ++num_messages; };
  for (const std::string checkpoint : {"tiny-sdxl", "tiny-sd15"}) {
    for (const std::string component : {"text_encoder", "unet", "vae_decoder", "vae_encoder"}) {
      (void)build_golden(component, golden_config(checkpoint, folder_of(component)), count);
    }
  }
  EXPECT_EQ(num_messages, 0);
}

TEST(Config, WarnsOfUnknownKeysButNotOfBookkeeping) {
  std::string messages;
  const Logger collect = [&](LogLevel, std::string_view, std::string_view text) {
    messages.append(text).append("\n");
  };
  Json config = golden_config("tiny-sdxl", "unet");
  config.set("a_new_option", 3).set("_use_default_values", Json::array({"freq_shift"}));
  (void)build_golden("unet", config, collect);
  EXPECT_EQ(messages, "unet/config.json: key 'a_new_option' is unknown and has no effect\n");
}

TEST(Config, MustBeAnObject) {
  const Json list = Json::array({1});
  EXPECT_EQ(code_of([&] { ConfigReader reader(JsonView(list, "unet/config.json")); }),
            Errc::kCorruptFile);
}

TEST(Registry, RefusesUnknownClassesAndComponents) {
  EXPECT_EQ(code_of([] { (void)find_model("unet", "UNet3DConditionModel"); }), Errc::kUnsupported);
  EXPECT_EQ(code_of([] { (void)find_model("safety_checker", "CLIPModel"); }), Errc::kUnsupported);
  EXPECT_EQ(find_model("text_encoder_2", "CLIPTextModelWithProjection").part, "text_encoder");
  EXPECT_EQ(all_models().size(), 7U);
}

TEST(Registry, RefusesImpossibleShapes) {
  const Json config = golden_config("tiny-sdxl", "unet");
  for (const BuildShape& shape :
       {BuildShape{.batch = 0, .height = 8, .width = 8}, BuildShape{.height = 0, .width = 8},
        BuildShape{.height = 8, .width = 1 << 20},
        BuildShape{.height = 8, .width = 8, .text_tokens = 0}}) {
    EXPECT_EQ(code_of([&] {
                (void)build("unet", "UNet2DConditionModel", JsonView(config, "unet/config.json"),
                            shape, {});
              }),
              Errc::kInvalidArgument);
  }
}

TEST(Registry, TellsTheRunPathWhatItNeeds) {
  const auto keys = [](const std::string& component) {
    const Json config = golden_config("tiny-sdxl", folder_of(component));
    return metadata(component, class_name_of(config), JsonView(config, "config.json"));
  };
  const Metadata unet = keys("unet");
  EXPECT_EQ(unet.at("latent_channels"), "4");
  EXPECT_EQ(unet.at("context_channels"), "56");
  EXPECT_EQ(unet.at("addition_embed_type"), "text_time");
  EXPECT_EQ(unet.at("pooled_channels"), "32");
  EXPECT_EQ(unet.at("num_time_ids"), "6");
  EXPECT_EQ(unet.at("component"), "unet");
  const Metadata vae = keys("vae_decoder");
  EXPECT_EQ(vae.at("class"), "AutoencoderKL");
  EXPECT_EQ(vae.at("shift_factor"), "0");
  const Metadata text = keys("text_encoder_2");
  EXPECT_EQ(text.at("pooled_channels"), "32");
  EXPECT_EQ(text.at("max_tokens"), "77");
}

}  // namespace
}  // namespace halftone::models
