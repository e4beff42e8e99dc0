// What needs no GPU: which kernels exist and which are chosen.
#include "backend/cuda/hopper/gemm.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int kSms = 132;

GemmShape linear(int64_t m, int64_t n, int64_t k, Element in = Element::kS8) {
  GemmShape s;
  s.in = in;
  s.m = m;
  s.n = n;
  s.channels = k;
  s.x_pitch = k * bytes_of(in);
  s.y_pitch = s.residual_pitch = n * bytes_of(s.out);
  return s;
}

GemmShape conv(int64_t images, int64_t size, int64_t channels, int64_t n) {
  GemmShape s = linear(images * size * size, n, channels);
  s.conv = true;
  s.images = images;
  s.in_h = s.in_w = s.out_h = s.out_w = size;
  s.kernel_h = s.kernel_w = 3;
  s.pad = 1;
  return s;
}

TEST(HopperKernels, EachTileExistsOnceAndFits) {
  std::set<std::tuple<Element, Element, Form, bool, std::string>> seen;
  for (const GemmKernel& kernel : gemm_kernels()) {
    SCOPED_TRACE(kernel.name());
    EXPECT_TRUE(
        seen.emplace(kernel.in, kernel.out, kernel.form, kernel.conv, kernel.name()).second);
    EXPECT_LE(kernel.shared_bytes, 227 * 1024);
    EXPECT_EQ(kernel.out_n, kernel.form == Form::kGeglu ? kernel.bn / 2 : kernel.bn);
    EXPECT_EQ(kernel.out_n * bytes_of(kernel.out) % kernel.panel_bytes, 0);
    EXPECT_NE(kernel.function, nullptr);
  }
}

TEST(HopperKernels, CandidatesServeTheShapeBestFirst) {
  for (const GemmShape& shape :
       {linear(2048, 1280, 1280), linear(256, 1280, 1280), linear(2048, 3840, 1280, Element::kF16),
        conv(2, 32, 1280, 1280), conv(2, 128, 320, 320)}) {
    const std::vector<uint16_t> order = candidates(shape, kSms);
    ASSERT_FALSE(order.empty());
    double last = 0;
    for (const uint16_t i : order) {
      const GemmKernel& kernel = gemm_kernels()[i];
      EXPECT_EQ(kernel.in, shape.in);
      EXPECT_EQ(kernel.out, shape.out);
      EXPECT_EQ(kernel.conv, shape.conv);
      EXPECT_EQ(kernel.form, Form::kPlain);
      const double clocks = estimate_clocks(shape, kernel, kSms);
      EXPECT_GE(clocks, last);
      last = clocks;
    }
  }
}

// Measured on an H200: few rows want small tiles, full waves want wide ones.
TEST(HopperKernels, EstimatePrefersTilesThatFillTheDevice) {
  const auto best = [](const GemmShape& shape) {
    return gemm_kernels()[candidates(shape, kSms).front()];
  };
  EXPECT_EQ(best(linear(256, 1280, 1280)).bm, 64);
  EXPECT_EQ(best(linear(2048, 1280, 5120)).bn, 160);
  EXPECT_EQ(best(conv(2, 32, 1280, 1280)).bn, 160);
}

// Few rows leave most of the device empty: the terms are shared out, where there are any to share.
TEST(HopperKernels, FewRowsAndManyTermsAreSharedOut) {
  const auto best = [](const GemmShape& shape) {
    return gemm_kernels()[candidates(shape, kSms).front()];
  };
  for (const Element in : {Element::kS8, Element::kE4M3, Element::kF16}) {
    EXPECT_EQ(best(linear(256, 1280, 5120, in)).split, 2);
    EXPECT_EQ(best(linear(2048, 1280, 5120, in)).split, 1);
    EXPECT_EQ(best(linear(256, 3840, 1280, in)).bn, 128);
    GemmShape image = conv(1, 16, 1280, 1280);
    image.in = in;
    EXPECT_EQ(best(image).split, 2);
    for (const uint16_t i : candidates(linear(256, 1280, 128 / bytes_of(in), in), kSms)) {
      EXPECT_EQ(gemm_kernels()[i].split, 1);
    }
  }
}

TEST(HopperKernels, SharingOutHasPairsOfBlocksAndSaysSo) {
  for (const GemmKernel& kernel : gemm_kernels()) {
    EXPECT_EQ(kernel.cluster_blocks(), kernel.cluster * kernel.split);
    EXPECT_LE(kernel.cluster_blocks(), 2);
    EXPECT_EQ(kernel.name().ends_with(" k2"), kernel.split == 2);
    EXPECT_FALSE(kernel.split == 2 && kernel.measures_groups);
  }
}

// Tiles of 256 rows have no registers for a second set of sums: of fp8 they take short products.
TEST(HopperKernels, LongProductsOfFp8ArePromoted) {
  const auto unpromoted = [](int64_t channels) {
    GemmShape shape = conv(2, 64, channels, 640);
    shape.in = Element::kE4M3;
    shape.x_pitch = channels;
    const std::vector<uint16_t> order = candidates(shape, kSms);
    return std::count_if(order.begin(), order.end(),
                         [](uint16_t i) { return !gemm_kernels()[i].promotes; });
  };
  EXPECT_EQ(unpromoted(640), 2);
  EXPECT_EQ(unpromoted(656), 0);
  for (const GemmKernel& kernel : gemm_kernels()) {
    EXPECT_TRUE(!kernel.promotes || kernel.in == Element::kE4M3) << kernel.name();
  }
}

// Who is not asked for amax has kernels without it, who is has others.
TEST(HopperKernels, AmaxHasKernelsOfItsOwn) {
  for (const Element in : {Element::kS8, Element::kE4M3}) {
    for (const bool geglu : {false, true}) {
      GemmShape shape = linear(2048, 5120, 1280, in);
      shape.geglu = geglu;
      for (const bool amax : {false, true}) {
        shape.amax = amax;
        EXPECT_EQ(unsupported_reason(shape), "");
        for (const uint16_t i : candidates(shape, kSms)) {
          EXPECT_EQ(gemm_kernels()[i].amax, amax);
          EXPECT_EQ(gemm_kernels()[i].name().ends_with(" amax"), amax);
        }
      }
    }
  }
  for (GemmShape shape : {linear(2048, 1280, 1280, Element::kF16), conv(2, 32, 1280, 1280)}) {
    shape.amax = true;
    EXPECT_NE(unsupported_reason(shape).find("amax"), std::string::npos);
  }
}

TEST(HopperKernels, EstimateGrowsWithTheWork) {
  const GemmKernel& kernel = gemm_kernels()[candidates(linear(2048, 1280, 1280), kSms).front()];
  EXPECT_LT(estimate_clocks(linear(2048, 1280, 1280), kernel, kSms),
            estimate_clocks(linear(2048, 1280, 5120), kernel, kSms));
  EXPECT_LT(estimate_clocks(linear(2048, 1280, 1280), kernel, kSms),
            estimate_clocks(linear(8192, 1280, 1280), kernel, kSms));
}

TEST(HopperKernels, ChannelsEndInTheFirstHalfOfAChunk) {
  const auto half_chunks = [](const GemmShape& shape) {
    std::set<std::pair<int, int>> found;  // bytes of a row, chunk
    for (const uint16_t i : candidates(shape, kSms)) {
      const GemmKernel& kernel = gemm_kernels()[i];
      found.emplace(kernel.row_bytes, half_chunk(shape, kernel));
    }
    return found;
  };
  using Found = std::set<std::pair<int, int>>;
  EXPECT_EQ(half_chunks(conv(2, 128, 320, 320)), (Found{{128, 2}, {64, -1}}));
  EXPECT_EQ(half_chunks(conv(2, 128, 960, 320)), (Found{{128, 7}, {64, -1}}));
  EXPECT_EQ(half_chunks(conv(2, 128, 160, 320)), (Found{{128, 1}, {64, 2}}));
  EXPECT_EQ(half_chunks(conv(2, 128, 640, 320)), (Found{{128, -1}, {64, -1}}));
  EXPECT_EQ(half_chunks(conv(2, 128, 336, 320)), (Found{{128, -1}, {64, 5}}));
  EXPECT_EQ(half_chunks(conv(2, 128, 48, 320)), (Found{{128, 0}, {64, -1}}));
}

TEST(HopperKernels, RefusalsSayWhy) {
  EXPECT_EQ(unsupported_reason(linear(77, 1280, 2048)), "");
  EXPECT_EQ(unsupported_reason(conv(16, 8, 640, 1280)), "");
  EXPECT_NE(unsupported_reason(linear(64, 64, 40)).find("16 bytes"), std::string::npos);
  EXPECT_NE(unsupported_reason(linear(64, 36, 64)).find("16 bytes"), std::string::npos);
  GemmShape residual = linear(64, 64, 64);
  residual.out = Element::kS8;
  residual.residual = true;
  EXPECT_NE(unsupported_reason(residual).find("residual"), std::string::npos);
  GemmShape foreign = linear(64, 64, 64);
  foreign.out = Element::kF32;
  EXPECT_NE(unsupported_reason(foreign).find("types"), std::string::npos);
  EXPECT_NE(unsupported_reason(linear(0, 64, 64)).find("empty"), std::string::npos);
}

}  // namespace
}  // namespace halftone::backend::cuda::hopper
