#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "metrics/image_metrics.h"
#include "metrics/pattern.h"
#include "metrics/signal.h"
#include "metrics/summary.h"

namespace halftone::metrics {
namespace {

Picture random_picture(int width, int height, uint32_t seed) {
  std::mt19937 generator(seed);
  Picture picture{width, height, {}};
  picture.rgb.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  for (uint8_t& v : picture.rgb) v = static_cast<uint8_t>(generator() >> 24);
  return picture;
}

TEST(ImageMetrics, EqualScikitImageAndTorchmetrics) {
  const std::string path = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/metrics/metrics.json";
  const Json golden = parse_json(read_text_file(path), path);
  int count = 0;
  for (const JsonView& row : JsonView(golden, path).at("rows").items()) {
    const auto width = static_cast<int>(row.at("width").integer());
    const auto height = static_cast<int>(row.at("height").integer());
    SCOPED_TRACE(std::to_string(width) + "x" + std::to_string(height));
    const Picture a = make_pattern(width, height, 0, 1);
    const Picture b = make_pattern(width, height, static_cast<int>(row.at("noise").integer()), 7);
    EXPECT_NEAR(psnr(a.view(), b.view()), row.at("psnr").number(), 1e-9);
    EXPECT_NEAR(ssim(a.view(), b.view()).value(), row.at("ssim").number(), 1e-7);
    const auto multi = ms_ssim(a.view(), b.view());
    ASSERT_EQ(multi.has_value(), row.has("ms_ssim"));
    // torchmetrics makes its window in float32.
    if (multi) {
      EXPECT_NEAR(*multi, row.at("ms_ssim").number(), 1e-5);
    }
    ++count;
  }
  EXPECT_EQ(count, 5);
}

TEST(ImageMetrics, IdenticalPicturesAreInfiniteAndOne) {
  for (uint32_t seed = 0; seed < 4; ++seed) {
    const Picture a = random_picture(180, 176 + static_cast<int>(seed), seed);
    EXPECT_EQ(psnr(a.view(), a.view()), std::numeric_limits<double>::infinity());
    EXPECT_DOUBLE_EQ(ssim(a.view(), a.view()).value(), 1.0);
    EXPECT_DOUBLE_EQ(ms_ssim(a.view(), a.view()).value(), 1.0);
  }
}

TEST(ImageMetrics, OrderDoesNotMatter) {
  for (uint32_t seed = 0; seed < 4; ++seed) {
    const Picture a = make_pattern(177, 180, 20, seed + 1);
    const Picture b = random_picture(177, 180, seed);
    EXPECT_EQ(psnr(a.view(), b.view()), psnr(b.view(), a.view()));
    EXPECT_NEAR(*ssim(a.view(), b.view()), *ssim(b.view(), a.view()), 1e-12);
    EXPECT_NEAR(*ms_ssim(a.view(), b.view()), *ms_ssim(b.view(), a.view()), 1e-12);
  }
}

TEST(ImageMetrics, MoreNoiseIsWorse) {
  const Picture a = make_pattern(192, 192, 0, 1);
  double last_psnr = 1000, last_ssim = 1, last_multi = 1;
  for (const int noise : {2, 6, 20, 60, 150}) {
    const Picture b = make_pattern(192, 192, noise, 3);
    EXPECT_LT(psnr(a.view(), b.view()), last_psnr);
    EXPECT_LT(*ssim(a.view(), b.view()), last_ssim);
    EXPECT_LT(*ms_ssim(a.view(), b.view()), last_multi);
    last_psnr = psnr(a.view(), b.view());
    last_ssim = *ssim(a.view(), b.view());
    last_multi = *ms_ssim(a.view(), b.view());
  }
}

TEST(ImageMetrics, WorkedExample) {
  const Picture black{1, 2, {0, 0, 0, 0, 0, 0}};
  const Picture grey{1, 2, {0, 0, 0, 0, 0, 51}};
  // MSE = 51^2 / 6; 10 log10(255^2 / MSE) = 10 log10(25 * 6).
  EXPECT_NEAR(psnr(black.view(), grey.view()), 10 * std::log10(150.0), 1e-12);
  EXPECT_FALSE(ssim(black.view(), grey.view()).has_value());
  EXPECT_EQ(absolute_difference(grey.view(), black.view()),
            (std::vector<uint8_t>{0, 0, 0, 0, 0, 51}));
}

TEST(ImageMetrics, DifferentSizesAreRefused) {
  const Picture a = random_picture(12, 20, 1);
  const Picture b = random_picture(20, 12, 1);
  try {
    (void)ssim(a.view(), b.view());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("12x20 and 20x12"), std::string::npos) << error.what();
  }
}

TEST(ErrorSum, WorkedExample) {
  ErrorSum sum;
  EXPECT_EQ(sum.mse(), 0);
  const std::vector<float> reference = {3, -4}, value = {3, -3.5F};
  sum.add(reference, value);
  EXPECT_DOUBLE_EQ(sum.mse(), 0.125);
  EXPECT_DOUBLE_EQ(sum.sqnr(), 20.0);  // 25 / 0.25
  sum.add(std::vector<float>{0}, std::vector<float>{-0.5F});
  EXPECT_DOUBLE_EQ(sum.mse(), 0.5 / 3);
  EXPECT_DOUBLE_EQ(sum.sqnr(), 10 * std::log10(50.0));
}

TEST(ErrorSum, ScalingBothSidesKeepsTheRatio) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 8; ++round) {
    std::vector<float> a(100), b(100), scaled_a(100), scaled_b(100);
    for (size_t i = 0; i < a.size(); ++i) {
      a[i] = normal(generator);
      b[i] = a[i] + 0.01F * normal(generator);
      scaled_a[i] = 64 * a[i];
      scaled_b[i] = 64 * b[i];
    }
    ErrorSum plain, scaled;
    plain.add(a, b);
    scaled.add(scaled_a, scaled_b);
    EXPECT_NEAR(plain.sqnr(), scaled.sqnr(), 1e-9);
    EXPECT_NEAR(plain.mse() * 4096, scaled.mse(), 1e-9);
  }
  ErrorSum same;
  same.add(std::vector<float>{1}, std::vector<float>{1});
  EXPECT_EQ(same.sqnr(), std::numeric_limits<double>::infinity());
}

TEST(Summary, WorkedExample) {
  const Summary s = summarize({4, 1, 3, 2, 10});
  EXPECT_DOUBLE_EQ(s.mean, 4);
  EXPECT_DOUBLE_EQ(s.median, 3);
  EXPECT_DOUBLE_EQ(s.p10, 1.4);
  EXPECT_DOUBLE_EQ(s.min, 1);
  EXPECT_DOUBLE_EQ(s.max, 10);
  const Summary one = summarize({7});
  EXPECT_DOUBLE_EQ(one.p10, 7);
}

}  // namespace
}  // namespace halftone::metrics
