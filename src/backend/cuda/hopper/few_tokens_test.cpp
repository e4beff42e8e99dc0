// What needs no GPU: which kernels exist, what they take and which are chosen.
#include "backend/cuda/hopper/few_tokens.h"

#include <optional>
#include <set>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

namespace halftone::backend::cuda::hopper {
namespace {

// What an H200's driver answers for kernels that take an SM's memory alone.
int at_once_of_h200(const FewTokensKernel& kernel, int /*shared_bytes*/) {
  return kernel.split == 5 ? 22 : kernel.split == 3 ? 39 : kernel.split == 2 ? 66 : 132;
}

std::string chosen(int m, int n, int k, std::optional<Element> codes = {}) {
  FewTokensProblem p;
  p.codes = codes;
  p.num_sms = 132;
  p.m = m;
  p.n = n;
  p.k = k;
  return choose_few_tokens(p, at_once_of_h200).name();
}

TEST(FewTokens, EachKernelExistsOnceAndFits) {
  std::set<std::tuple<Element, std::optional<Element>, std::string>> seen;
  for (const FewTokensKernel& kernel : few_tokens_kernels()) {
    SCOPED_TRACE(kernel.name());
    EXPECT_TRUE(seen.emplace(kernel.element, kernel.codes, kernel.name()).second);
    EXPECT_NE(kernel.function, nullptr);
    for (const int k : {8, 72, 768, 5120, 1 << 20}) {
      const FewTokensLayout layout(kernel, 1288, k, 132);
      EXPECT_EQ(layout.clusters, kernel.channels() == 128 ? 11 : 21);
      EXPECT_EQ(layout.steps, (k + 63) / 64);
      EXPECT_GE(layout.stages, 2);
      EXPECT_LE(layout.stages, kFewTokensStages);
      EXPECT_GE(layout.partials, kernel.staging_bytes);
      EXPECT_GE(layout.partials, layout.stages * kernel.stage_bytes);
      EXPECT_LE(layout.shared_bytes, 227 * 1024);
    }
  }
}

// Both text encoders of SDXL, one prompt and two: what was fastest when each was measured, weights
// in memory, or within 2 % of it.
TEST(FewTokens, TakesWhatWasFastest) {
  EXPECT_EQ(chosen(77, 3840, 1280), "64x80 k2");
  EXPECT_EQ(chosen(77, 1280, 1280), "64x80 k3");
  EXPECT_EQ(chosen(77, 5120, 1280), "128x80 k2");
  EXPECT_EQ(chosen(77, 1280, 5120), "64x80 k5");
  EXPECT_EQ(chosen(77, 2304, 768), "64x80 k2");
  EXPECT_EQ(chosen(77, 768, 768), "64x80 k2");
  EXPECT_EQ(chosen(77, 3072, 768), "64x80 k2");
  EXPECT_EQ(chosen(77, 768, 3072), "64x80 k5");
  EXPECT_EQ(chosen(154, 3840, 1280), "64x160 k2");
  EXPECT_EQ(chosen(154, 1280, 1280), "64x160 k5");
  EXPECT_EQ(chosen(154, 5120, 1280), "128x160 k2");
  EXPECT_EQ(chosen(154, 1280, 5120), "64x160 k5");
  EXPECT_EQ(chosen(154, 2304, 768), "64x160 k2");
  EXPECT_EQ(chosen(154, 768, 768), "64x160 k5");
  EXPECT_EQ(chosen(154, 3072, 768), "64x160 k2");
  EXPECT_EQ(chosen(154, 768, 3072), "64x160 k5");
}

// Keys and values of a text, of one layer and of as many as 64 MiB hold.
TEST(FewTokens, CodesDivideTermsOrShareOutChannels) {
  for (const Element codes : {Element::kS8, Element::kE4M3}) {
    EXPECT_EQ(chosen(77, 1280, 2048, codes), "64x80 k5");
    EXPECT_EQ(chosen(77, 2560, 2048, codes), "64x80 k2");
    EXPECT_EQ(chosen(77, 35840, 2048, codes), "320x80 k1");
    EXPECT_EQ(chosen(154, 1280, 2048, codes), "64x160 k5");
    EXPECT_EQ(chosen(154, 2560, 2048, codes), "64x160 k2");
    EXPECT_EQ(chosen(154, 35840, 2048, codes), "192x160 k1");
  }
}

// Every SM has as many blocks; none has more channels than warpgroups for them.
TEST(FewTokens, BlocksAloneAreMultiplesOfTheSms) {
  for (const FewTokensKernel& kernel : few_tokens_kernels()) {
    if (kernel.split > 1) continue;
    SCOPED_TRACE(kernel.name());
    const auto blocks = [&](int n) { return FewTokensLayout(kernel, n, 2048, 132).clusters; };
    EXPECT_EQ(blocks(8), 1);
    EXPECT_EQ(blocks(8448), 132);
    EXPECT_EQ(blocks(35840), kernel.tokens == 80 ? 132 : 264);
    EXPECT_EQ(blocks(132 * kernel.channels()), 132);
    EXPECT_EQ(blocks(132 * kernel.channels() + 8), 264);
  }
}

TEST(FewTokens, TheSmallestTileHoldsAllRows) {
  for (const Element element : {Element::kF16, Element::kBF16}) {
    for (const int m : {1, 80, 81, kMostTokens}) {
      FewTokensProblem p;
      p.element = element;
      p.m = m;
      p.n = 8;
      p.k = 8;
      const FewTokensKernel& kernel = choose_few_tokens(p, at_once_of_h200);
      EXPECT_EQ(kernel.element, element);
      EXPECT_EQ(kernel.tokens, m <= 80 ? 80 : 160);
    }
  }
}

// A device of fewer SMs, or none that has room: the last of the tile still serves.
TEST(FewTokens, WithoutRoomTheWidestServes) {
  FewTokensProblem p;
  p.m = 77;
  p.n = 1280;
  p.k = 5120;
  EXPECT_EQ(choose_few_tokens(p, [](const FewTokensKernel&, int) { return 0; }).name(),
            "128x80 k2");
  p.codes = Element::kS8;
  EXPECT_EQ(choose_few_tokens(p, [](const FewTokensKernel&, int) { return 0; }).name(),
            "320x80 k1");
}

}  // namespace
}  // namespace halftone::backend::cuda::hopper
