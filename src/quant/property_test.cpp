// What must hold for any values: seeded random tensors with outliers of forty times the rest.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "graph/ops/reduce.h"
#include "quant/observer.h"
#include "quant/search.h"
#include "quant/smooth.h"
#include "reference/reference.h"
#include "tensor/quantized.h"

namespace halftone::quant {
namespace {

using graph::Granularity;
using graph::Role;
using reference::evaluate_op;

constexpr int64_t kRows = 24;
constexpr int64_t kWidth = 40;
constexpr uint64_t kSeeds = 12;

Tensor outliers(std::mt19937_64& random, int64_t rows, int64_t width) {
  Tensor x({DType::kF32, {rows, width}});
  std::normal_distribution<float> normal;
  for (float& v : x.values<float>()) v = normal(random) * (random() % 31 == 0 ? 40.0F : 1.0F);
  return x;
}

struct Coded {
  Tensor q, scale, back;
};

Coded through(const Tensor& x, DType dtype, int64_t bits, Granularity granularity) {
  auto q = evaluate_op(
      graph::Quantize{.dtype = dtype, .bits = bits, .granularity = granularity, .dynamic = true},
      {{Role::kX, &x}});
  auto back = evaluate_op(graph::Dequantize{.bits = bits, .granularity = granularity},
                          {{Role::kX, &q[0]}, {Role::kXScale, &q[1]}});
  return {std::move(q[0]), std::move(q[1]), std::move(back[0])};
}

double sqnr(const Tensor& x, const Tensor& y) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < x.values<float>().size(); ++i) {
    const auto a = static_cast<double>(x.values<float>()[i]);
    signal += a * a;
    noise += std::pow(a - static_cast<double>(y.values<float>()[i]), 2);
  }
  return 10 * std::log10(signal / noise);
}

template <class F>
void for_seeds(F&& f) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    f(random);
  }
}

// Float products and quotients cost a few ulp beside the half step.
constexpr double kUlps = 1 + 1e-5;

TEST(Property, IntegerErrorIsAtMostHalfAStep) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    for (const int64_t bits : {2, 4, 8}) {
      const Coded c = through(x, DType::kI8, bits, Granularity::kPerToken);
      for (size_t i = 0; i < x.values<float>().size(); ++i) {
        const auto scale = static_cast<double>(c.scale.values<float>()[i / kWidth]);
        EXPECT_NEAR(static_cast<double>(c.back.values<float>()[i]),
                    static_cast<double>(x.values<float>()[i]), 0.5 * scale * kUlps);
      }
    }
  });
}

// E4M3: half of the last of 3 bits, 2^-4 of the value; below 2^-6 of the code half of 2^-9.
TEST(Property, E4m3ErrorIsASixteenthOrHalfOfTheLeastStep) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    const Coded c = through(x, DType::kF8E4M3, 8, Granularity::kPerTensor);
    const auto scale = static_cast<double>(c.scale.values<float>()[0]);
    for (size_t i = 0; i < x.values<float>().size(); ++i) {
      const auto v = static_cast<double>(x.values<float>()[i]);
      EXPECT_NEAR(static_cast<double>(c.back.values<float>()[i]), v,
                  std::max(std::fabs(v) / 16, scale * std::ldexp(1.0, -10)) * kUlps);
    }
  });
}

TEST(Property, TheLargestValueOfEveryGroupTakesTheLargestCode) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    const Coded c = through(x, DType::kI8, 8, Granularity::kPerToken);
    for (size_t row = 0; row < kRows; ++row) {
      const auto codes = c.q.values<int8_t>().subspan(row * kWidth, kWidth);
      const auto largest = std::ranges::max(codes, {}, [](int8_t v) { return std::abs(v); });
      EXPECT_EQ(std::abs(largest), 127);
    }
  });
}

TEST(Property, MoreBitsNeverHaveALowerSqnr) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    double before = -100;
    for (const int64_t bits : {2, 4, 8}) {
      const double now = sqnr(x, through(x, DType::kI8, bits, Granularity::kPerChannel).back);
      EXPECT_GT(now, before) << bits;
      before = now;
    }
  });
}

// A finer scale never widens the range of a group: steps are at most as large.
TEST(Property, ScalesPerTokenAreAtMostThatOfTheTensor) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    const Coded tensor = through(x, DType::kI8, 8, Granularity::kPerTensor);
    const Coded token = through(x, DType::kI8, 8, Granularity::kPerToken);
    for (const float scale : token.scale.values<float>()) {
      EXPECT_LE(scale, tensor.scale.values<float>()[0]);
    }
    EXPECT_GT(sqnr(x, token.back), sqnr(x, tensor.back));
  });
}

TEST(Property, PowersOfTwoPassThroughTheScale) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    Tensor larger = x.clone();
    for (float& v : larger.values<float>()) v *= 64.0F;
    for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
      const Coded a = through(x, dtype, 8, Granularity::kPerToken);
      const Coded b = through(larger, dtype, 8, Granularity::kPerToken);
      EXPECT_TRUE(std::ranges::equal(a.q.values<uint8_t>(), b.q.values<uint8_t>()));
    }
  });
}

TEST(Property, CodesAreFixedPoints) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
      const Coded once = through(x, dtype, 8, Granularity::kPerToken);
      const Coded twice = through(once.back, dtype, 8, Granularity::kPerToken);
      EXPECT_TRUE(std::ranges::equal(once.q.values<uint8_t>(), twice.q.values<uint8_t>()));
    }
  });
}

Tensor permuted_columns(const Tensor& x, const std::vector<size_t>& order) {
  Tensor y = x.clone();
  for (size_t i = 0; i < y.values<float>().size(); ++i) {
    const size_t row = i / order.size() * order.size();
    y.values<float>()[i] = x.values<float>()[row + order[i % order.size()]];
  }
  return y;
}

// Products of integer codes are summed exactly: the order of channels does not matter at all.
TEST(Property, ChannelsMayBePermuted) {
  for_seeds([](std::mt19937_64& random) {
    const Tensor x = outliers(random, kRows, kWidth);
    const Tensor w = outliers(random, 9, kWidth);
    std::vector<size_t> order(kWidth);
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::shuffle(order, random);
    const auto linear = [](const Tensor& input, const Tensor& weight) {
      const Coded a = through(input, DType::kI8, 8, Granularity::kPerToken);
      const Coded b = through(weight, DType::kI8, 8, Granularity::kPerChannel);
      return std::move(evaluate_op(graph::Linear{}, {{Role::kX, &a.q},
                                                     {Role::kXScale, &a.scale},
                                                     {Role::kWeight, &b.q},
                                                     {Role::kWScale, &b.scale}})[0]);
    };
    const Tensor y = linear(x, w);
    const Tensor z = linear(permuted_columns(x, order), permuted_columns(w, order));
    EXPECT_TRUE(std::ranges::equal(y.values<float>(), z.values<float>()));
  });
}

// (x s)(W / s) = x W but for roundings, and the smoothed input's outliers are smaller.
TEST(Property, SmoothingChangesNothingButRanges) {
  for_seeds([](std::mt19937_64& random) {
    Tensor x = outliers(random, kRows, kWidth);
    for (size_t i = 3; i < x.values<float>().size(); i += kWidth) x.values<float>()[i] *= 60;
    const Tensor w = outliers(random, 9, kWidth);
    const auto column_amax = [](const Tensor& t) {
      std::vector<float> amax(kWidth, 0.0F);
      for (size_t i = 0; i < t.values<float>().size(); ++i) {
        amax[i % kWidth] = std::max(amax[i % kWidth], std::fabs(t.values<float>()[i]));
      }
      return amax;
    };
    const std::vector<float> s = smoothing_factors(column_amax(x), column_amax(w), 0.5);
    for (size_t row = 0; row < kRows; ++row) {
      double plain = 0, smooth = 0, size = 0;
      for (size_t j = 0; j < kWidth; ++j) {
        const auto a = static_cast<double>(x.values<float>()[row * kWidth + j]);
        const auto b = static_cast<double>(w.values<float>()[j]);
        const auto factor = static_cast<double>(s[j]);
        plain += a * b;
        smooth += (a * factor) * (b / factor);
        size += std::fabs(a * b);
      }
      EXPECT_NEAR(smooth, plain, 1e-14 * size);
    }
    std::vector<float> a = column_amax(x), b = a;
    for (size_t j = 0; j < b.size(); ++j) b[j] *= s[j];
    const auto spread = [](const std::vector<float>& v) {
      return std::ranges::max(v) / std::ranges::min(v);
    };
    EXPECT_LT(spread(b), spread(a));
  });
}

// What is predicted of a static scale's codes is what a layer's output then has.
TEST(Property, PredictedSqnrIsThatOfTheOutput) {
  for_seeds([](std::mt19937_64& random) {
    constexpr int64_t kTokens = 400;
    const Tensor x = outliers(random, kTokens, kWidth);
    Tensor w({DType::kF32, {9, kWidth}});
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < w.values<float>().size(); ++i) {
      w.values<float>()[i] = normal(random) * static_cast<float>(1 + i % 4);
    }
    const auto in = x.values<float>();
    ValueStats stats;
    stats.histogram.assign(graph::kHistogramBins, 0);
    std::vector<float> amax(kWidth, 0.0F);
    for (size_t i = 0; i < in.size(); ++i) {
      ++stats.histogram[static_cast<size_t>(graph::histogram_bin(in[i]))];
      amax[i % kWidth] = std::max(amax[i % kWidth], std::fabs(in[i]));
    }
    ColumnStats columns{.amax = std::vector<float>(kWidth, 0.0F),
                        .energy = std::vector<double>(kWidth, 0.0)};
    for (size_t i = 0; i < w.values<float>().size(); ++i) {
      const float value = w.values<float>()[i];
      columns.amax[i % kWidth] = std::max(columns.amax[i % kWidth], std::fabs(value));
      columns.energy[i % kWidth] += static_cast<double>(value) * static_cast<double>(value);
    }
    for (const bool smooths : {false, true}) {
      std::vector<float> s(kWidth, 1.0F);
      if (smooths) s = smoothing_factors(amax, columns.amax, 0.8);
      double top = 0;
      for (size_t j = 0; j < s.size(); ++j) top = std::max<double>(top, amax[j] * s[j]);
      const double step = top / 127;
      double signal = 0, noise = 0;
      for (size_t row = 0; row < kTokens; ++row) {
        for (size_t o = 0; o < 9; ++o) {
          double exact = 0, error = 0;
          for (size_t j = 0; j < kWidth; ++j) {
            const auto value = static_cast<double>(in[row * kWidth + j]);
            const auto weight = static_cast<double>(w.values<float>()[o * kWidth + j]);
            const auto factor = static_cast<double>(s[j]);
            exact += value * weight;
            error += (std::nearbyint(value * factor / step) * step / factor - value) * weight;
          }
          signal += exact * exact;
          noise += error * error;
        }
      }
      EXPECT_NEAR(predicted_sqnr(stats, step, noise_gain(s, columns.energy)),
                  10 * std::log10(signal / noise), 1.0)
          << (smooths ? "smoothed" : "plain");
    }
  });
}

// Adding one vector to every key changes nothing, and centred keys have no common part left.
TEST(Property, CenteredKeysLeaveTheAttentionUnchanged) {
  for_seeds([](std::mt19937_64& random) {
    const auto make = [&](int64_t tokens) {
      const Tensor flat = outliers(random, tokens, 32);
      Tensor x({DType::kF32, {1, tokens, 32}});
      std::ranges::copy(flat.values<float>(), x.values<float>().begin());
      return x;
    };
    const Tensor q = make(7), k = make(11), v = make(11);
    const Tensor centered = std::move(evaluate_op(graph::Center{}, {{Role::kX, &k}})[0]);
    const graph::Attention attention{.heads = 2, .scale = 0.02};
    const auto a = evaluate_op(attention, {{Role::kQ, &q}, {Role::kK, &k}, {Role::kV, &v}});
    const auto b = evaluate_op(attention, {{Role::kQ, &q}, {Role::kK, &centered}, {Role::kV, &v}});
    for (size_t i = 0; i < a[0].values<float>().size(); ++i) {
      EXPECT_NEAR(a[0].values<float>()[i], b[0].values<float>()[i], 1e-3F);
    }
    for (size_t c = 0; c < 32; ++c) {
      double sum = 0, size = 0;
      for (size_t t = 0; t < 11; ++t) {
        sum += static_cast<double>(centered.values<float>()[t * 32 + c]);
        size += std::fabs(static_cast<double>(k.values<float>()[t * 32 + c]));
      }
      EXPECT_NEAR(sum, 0, 1e-6 * size);
    }
  });
}

// Every choice of widths is whole and within its budget, and a larger budget is never worse.
TEST(Property, ChosenWidthsFitTheBudget) {
  for_seeds([](std::mt19937_64& random) {
    std::vector<std::vector<Option>> layers(30);
    int64_t weights = 0;
    for (auto& options : layers) {
      const auto size = static_cast<int64_t>(1 + random() % 1000);
      weights += size;
      double value = 0;
      for (const int64_t bits : {2, 4, 8}) {
        value += static_cast<double>(random() % 1000);
        options.push_back({size * bits, value});
      }
    }
    double before = -1;
    for (int64_t bits = 2; bits <= 8; ++bits) {
      const auto found = select_options(layers, weights * bits);
      ASSERT_TRUE(found);
      ASSERT_EQ(found->chosen.size(), layers.size());
      int64_t cost = 0;
      double value = 0;
      for (size_t i = 0; i < layers.size(); ++i) {
        ASSERT_LT(found->chosen[i], layers[i].size());
        cost += layers[i][found->chosen[i]].cost;
        value += layers[i][found->chosen[i]].value;
      }
      EXPECT_EQ(found->cost, cost);
      EXPECT_LE(cost, weights * bits);
      EXPECT_DOUBLE_EQ(found->value, value);
      EXPECT_GE(value, before);
      before = value;
    }
    EXPECT_FALSE(select_options(layers, weights * 2 - 1));
  });
}

}  // namespace
}  // namespace halftone::quant
