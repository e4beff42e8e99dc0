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

TEST(Family, SdxlRepeatsSizesUncondFirst) {
  const std::array<SizeConditioning, 2> sizes = {
      SizeConditioning{.original = {1, 2}, .crop_top_left = {3, 4}, .target = {5, 6}},
      SizeConditioning{.original = {7, 8}, .crop_top_left = {9, 10}, .target = {11, 12}}};
  const Conditioning inputs = find_family("sdxl").condition(sizes, 2);
  ASSERT_EQ(inputs.size(), 1U);
  EXPECT_EQ(inputs[0].first, "time_ids");
  EXPECT_EQ(to_string(inputs[0].second.shape()), "[4,6]");
  EXPECT_TRUE(std::ranges::equal(inputs[0].second.values<float>(),
                                 std::vector<float>{1, 2, 3, 4,  5,  6,  1, 2, 3, 4,  5,  6,
                                                    7, 8, 9, 10, 11, 12, 7, 8, 9, 10, 11, 12}));
  EXPECT_TRUE(find_family("sd15").condition(sizes, 2).empty());
}

// A stream whose clock is set by hand.
class ClockStream final : public backend::Stream {
 public:
  void synchronize() override { ++waits; }
  void mark(size_t index) override {
    marks_.resize(std::max(marks_.size(), index + 1));
    marks_[index] = now;
  }
  [[nodiscard]] double ms_between(size_t first, size_t last) const override {
    EXPECT_EQ(waits, 1);  // times are read once, behind everything
    return marks_.at(last) - marks_.at(first);
  }
  double now = 0;
  int waits = 0;

 private:
  std::vector<double> marks_;
};

TEST(StageTimer, AddsStagesOfANameAndLeavesOutWhatIsBetween) {
  ClockStream stream;
  StageTimer timer(stream);
  const auto stage = [&](const char* name, double ms) {
    timer.begin();
    stream.now += ms / 2;
    static_cast<void>(timer.mark());
    stream.now += ms / 2;
    timer.end(name, 2);
    stream.now += 100;
  };
  stage("vae", 4);
  stage("unet", 16);
  stage("vae", 8);
  const std::vector<StageTime> times = timer.times();
  ASSERT_EQ(times.size(), 2U);
  EXPECT_EQ(times[0].name, "vae");
  EXPECT_EQ(times[0].runs, 4);
  EXPECT_EQ(times[0].ms, 12.0);
  EXPECT_EQ(times[1].name, "unet");
  EXPECT_EQ(times[1].ms, 16.0);
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
