#include "pipeline/pipeline.h"

#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "pipeline/latents.h"

namespace halftone::pipeline {
namespace {

TEST(Latents, LayoutsAreInverse) {
  Tensor x({DType::kF32, {2, 3, 4, 5}});
  std::iota(x.values<float>().begin(), x.values<float>().end(), 0.0F);
  const Tensor y = nchw_to_nhwc(x);
  EXPECT_EQ(to_string(y.shape()), "[2,4,5,3]");
  EXPECT_EQ(y.values<float>()[1], 20.0F);  // channel 1 of the first pixel
  const Tensor back = nhwc_to_nchw(y);
  EXPECT_TRUE(std::ranges::equal(back.values<float>(), x.values<float>()));
}

TEST(Latents, EachImageOfABatchHasItsOwnGenerator) {
  std::vector<uint64_t> seeds(37);  // more than most machines have threads
  std::iota(seeds.begin(), seeds.end(), 7);
  constexpr size_t kImage = 4 * 6 * 8;
  for (const Rng rng : {Rng::kCpu, Rng::kCuda}) {
    BatchNoise all(rng, seeds);
    const Tensor draws[] = {all.draw_nchw(4, 6, 8), all.draw_nchw(4, 6, 8)};
    for (size_t i = 0; i < seeds.size(); ++i) {
      BatchNoise one(rng, std::span(seeds).subspan(i, 1));
      for (const Tensor& draw : draws) {
        const Tensor alone = one.draw_nchw(4, 6, 8);
        EXPECT_TRUE(std::ranges::equal(draw.values<float>().subspan(i * kImage, kImage),
                                       alone.values<float>()))
            << i;
      }
    }
  }
}

TEST(Latents, FindsWhatIsNotFinite) {
  std::vector<float> values = {0, 1, -3};
  EXPECT_TRUE(all_finite(values));
  values[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(all_finite(values));
  values[1] = -std::numeric_limits<float>::infinity();
  EXPECT_FALSE(all_finite(values));
}

TEST(Size, SuggestsTheNearestMultiples) {
  check_size(64, 96, 8);
  try {
    check_size(100, 96, 8);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_STREQ(error.what(),
                 "width: got 100, wanted a multiple of 8; the nearest are 96 and 104");
  }
  EXPECT_THROW(check_size(64, 0, 8), Error);
  EXPECT_THROW(check_size(64, -8, 8), Error);
}

TEST(Family, SdxlJoinsItsEncodersAndOrdersUncondFirst) {
  const Family& family = find_family("sdxl");
  std::vector<TextOutputs> outputs(2);
  outputs[0].hidden = Tensor::from({1, 2, 1}, std::vector<float>{1, 2});
  outputs[1].hidden = Tensor::from({1, 2, 2}, std::vector<float>{10, 11, 20, 21});
  outputs[1].pooled = Tensor::from({1, 2}, std::vector<float>{5, 6});
  const PromptEmbeds cond = family.embed(outputs);
  EXPECT_TRUE(
      std::ranges::equal(cond.context.values<float>(), std::vector<float>{1, 10, 11, 2, 20, 21}));
  const PromptEmbeds uncond{.context = Tensor::zeros(cond.context.type()),
                            .pooled = Tensor::zeros(cond.pooled.type())};
  const std::array<const PromptEmbeds*, 2> prompts = {&uncond, &cond};
  const std::array<SizeConditioning, 2> sizes = {
      SizeConditioning{.original = {1, 2}, .crop_top_left = {3, 4}, .target = {5, 6}},
      SizeConditioning{.original = {7, 8}, .crop_top_left = {9, 10}, .target = {11, 12}}};
  const Conditioning inputs = family.condition(prompts, sizes, 2);
  ASSERT_EQ(inputs.size(), 3U);
  EXPECT_EQ(inputs[1].first, "text_embeds");
  EXPECT_TRUE(std::ranges::equal(inputs[1].second.values<float>(),
                                 std::vector<float>{0, 0, 0, 0, 5, 6, 5, 6}));
  EXPECT_EQ(inputs[2].first, "time_ids");
  EXPECT_EQ(to_string(inputs[2].second.shape()), "[4,6]");
  EXPECT_EQ(inputs[2].second.values<float>()[12], 7.0F);
}

TEST(Family, UnknownOneNamesTheKnown) {
  try {
    static_cast<void>(find_family("sd9"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("sdxl, sd15"), std::string::npos);
  }
}

TEST(Facts, MissingOrMalformedMetadataNameTheKey) {
  std::map<std::string, std::string> unet = {{"family", "sdxl"},
                                             {"force_zeros_for_empty_prompt", "true"},
                                             {"latent_channels", "4"},
                                             {"sample_size", "32"}};
  std::map<std::string, std::string> vae = {
      {"vae_scale_factor", "8"}, {"scaling_factor", "0.13025"}, {"shift_factor", "0"}};
  const ModelFacts facts = read_facts(unet, vae);
  EXPECT_TRUE(facts.force_zeros_for_empty_prompt);
  EXPECT_DOUBLE_EQ(facts.scaling_factor, 0.13025);
  vae["scaling_factor"] = "0.13x";
  try {
    static_cast<void>(read_facts(unet, vae));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kCorruptFile);
    EXPECT_NE(std::string(error.what()).find("scaling_factor"), std::string::npos);
  }
}

}  // namespace
}  // namespace halftone::pipeline
