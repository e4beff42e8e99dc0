#include "quant/schemes/vae.h"

#include <gtest/gtest.h>

namespace halftone::quant {
namespace {

bool is_quantized(const Recipe& recipe, std::string_view layer, LayerKind kind) {
  return RuleMatcher(recipe).choose(layer, kind).spec.weight.has_value();
}

TEST(VaeRecipe, QuantizesConvolutionsButNotWhatMapsLatentsAndPixels) {
  const Recipe recipe = make_vae_recipe({});
  EXPECT_TRUE(recipe.needs_record());
  for (const char* layer :
       {"decoder.up_blocks.0.resnets.0.conv1", "decoder.up_blocks.3.resnets.2.conv2",
        "decoder.mid_block.resnets.1.conv2", "decoder.up_blocks.1.upsamplers.0.conv"}) {
    EXPECT_TRUE(is_quantized(recipe, layer, LayerKind::kConv)) << layer;
  }
  for (const char* layer : {"decoder.conv_in", "decoder.conv_out", "post_quant_conv",
                            "decoder.up_blocks.2.resnets.0.conv_shortcut"}) {
    EXPECT_FALSE(is_quantized(recipe, layer, LayerKind::kConv)) << layer;
  }
  EXPECT_FALSE(is_quantized(recipe, "decoder.mid_block.attentions.0.to_q", LayerKind::kLinear));
}

TEST(VaeRecipe, Fp8TakesMaximaAndTheSameLayers) {
  const Recipe recipe = make_vae_recipe({}, DType::kF8E4M3);
  EXPECT_EQ(recipe.scheme, "fp8_vae");
  EXPECT_EQ(recipe.collect.method, Collect::Method::kMax);
  EXPECT_EQ(make_vae_recipe({}).collect.method, Collect::Method::kMse);
  const LayerSpec conv =
      RuleMatcher(recipe).choose("decoder.up_blocks.0.resnets.0.conv1", LayerKind::kConv).spec;
  EXPECT_EQ(conv.weight, channel_weights(DType::kF8E4M3));
  EXPECT_EQ(conv.activation, (QuantSpec{.dtype = DType::kF8E4M3}));
  EXPECT_FALSE(is_quantized(recipe, "decoder.conv_in", LayerKind::kConv));
}

TEST(VaeRecipe, MlperfKeepsItsList) {
  SchemeOptions options;
  options.policy = "mlperf";
  const Recipe recipe = make_vae_recipe(options);
  for (const char* layer :
       {"decoder.up_blocks.0.resnets.2.conv1", "decoder.up_blocks.2.resnets.0.conv2",
        "decoder.up_blocks.2.upsamplers.0.conv"}) {
    EXPECT_TRUE(is_quantized(recipe, layer, LayerKind::kConv)) << layer;
  }
  for (const char* layer :
       {"decoder.up_blocks.3.resnets.0.conv1", "decoder.up_blocks.2.resnets.1.conv1",
        "decoder.mid_block.resnets.0.conv1"}) {
    EXPECT_FALSE(is_quantized(recipe, layer, LayerKind::kConv)) << layer;
  }
}

TEST(VaeRecipe, IncludeComesAfterExclude) {
  SchemeOptions options;
  options.exclude = {"up_blocks.3"};
  options.include = {"up_blocks.3.resnets.1"};
  const Recipe recipe = make_vae_recipe(options);
  EXPECT_FALSE(is_quantized(recipe, "decoder.up_blocks.3.resnets.0.conv1", LayerKind::kConv));
  EXPECT_TRUE(is_quantized(recipe, "decoder.up_blocks.3.resnets.1.conv1", LayerKind::kConv));
}

}  // namespace
}  // namespace halftone::quant
