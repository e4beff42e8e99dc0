#include "row_statistics.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "amax.h"
#include "group_statistics.h"

namespace halftone::conformance {
namespace {

constexpr auto kSlot = static_cast<size_t>(graph::kStatisticsColumns);

struct Moments {
  double mean = 0.0;
  double squares = 0.0;  // of deviations from it
  double largest = 0.0;
};

Moments moments_of(std::span<const float> values) {
  Moments m;
  for (const float v : values) {
    m.mean += static_cast<double>(v) / static_cast<double>(values.size());
    m.largest = std::max(m.largest, std::fabs(static_cast<double>(v)));
  }
  for (const float v : values) {
    const double d = static_cast<double>(v) - m.mean;
    m.squares += d * d;
  }
  return m;
}

// Of every slot of every row.
std::vector<Moments> slots_of(const Tensor& rows) {
  const Tensor f = rows.to(DType::kF32);
  const auto values = f.values<float>();
  const auto width = static_cast<size_t>(rows.shape().row_size());
  std::vector<Moments> slots;
  for (size_t row = 0; row < values.size(); row += width) {
    for (size_t first = 0; first < width; first += kSlot) {
      slots.push_back(moments_of(values.subspan(row + first, std::min(kSlot, width - first))));
    }
  }
  return slots;
}

const Tensor& operand(const Question& q, Role role) {
  const auto at = std::ranges::find(q.typed_inputs, role, &graph::TypedOperand::role);
  return q.inputs[static_cast<size_t>(at - q.typed_inputs.begin())];
}

}  // namespace

void derive_inputs(const Case& c, Question& q) {
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const auto values = [&] { return q.inputs[i].values<float>(); };
    if (c.inputs[i].fill == Fill::kRowStatistics) {
      const std::vector<Moments> slots = slots_of(operand(q, Role::kX));
      for (size_t slot = 0; slot < slots.size(); ++slot) {
        values()[2 * slot] = static_cast<float>(slots[slot].mean);
        values()[2 * slot + 1] = static_cast<float>(slots[slot].squares);
      }
    } else if (c.inputs[i].fill == Fill::kGroupStatistics) {
      std::ranges::copy(group_statistics(operand(q, Role::kX), q.inputs[i].shape()[1]),
                        values().begin());
    } else if (c.inputs[i].fill == Fill::kAmax) {
      std::ranges::copy(dealt_amax(operand(q, Role::kX)), values().begin());
    } else if (c.inputs[i].fill == Fill::kRowSums) {
      const Tensor weight = operand(q, Role::kWeight).to(DType::kF32);
      const size_t in = weight.values<float>().size() / values().size();
      for (size_t o = 0; o < values().size(); ++o) {
        const auto row = weight.values<float>().subspan(o * in, in);
        values()[o] = static_cast<float>(moments_of(row).mean * static_cast<double>(in));
      }
    }
  }
}

void scale_by_deviation(const Question& q, std::span<float> magnitude) {
  const bool normalized = std::ranges::any_of(
      q.typed_inputs, [](const auto& input) { return input.role == Role::kRowStatistics; });
  if (!normalized) return;
  const Tensor x = operand(q, Role::kX).to(DType::kF32);
  const auto in = static_cast<size_t>(x.shape().row_size());
  const size_t rows = x.values<float>().size() / in;
  for (size_t row = 0; row < rows; ++row) {
    const Moments m = moments_of(x.values<float>().subspan(row * in, in));
    // Products, and the mean's, which are as large together.
    const double scale = 2.0 / std::sqrt(m.squares / static_cast<double>(in));
    const size_t width = magnitude.size() / rows;
    for (float& v : magnitude.subspan(row * width, width)) {
      v *= static_cast<float>(std::max(scale, 1.0));
    }
  }
}

void expect_row_statistics(const Tensor& y, const Tensor& statistics) {
  const std::vector<Moments> slots = slots_of(y);
  const auto got = statistics.values<float>();
  ASSERT_EQ(got.size(), 2 * slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    const Moments& m = slots[i];
    const double off = std::ldexp(m.largest, -19);  // of the mean: 80 additions in f32
    const auto squares = static_cast<double>(got[2 * i + 1]);
    EXPECT_NEAR(static_cast<double>(got[2 * i]), m.mean, off) << "slot " << i;
    // Sums of squares may be taken before the mean is known.
    const double all = m.squares + static_cast<double>(kSlot) * m.mean * m.mean;
    EXPECT_NEAR(squares, m.squares, std::ldexp(m.squares, -17) + std::ldexp(all, -20))
        << "slot " << i;
    if (testing::Test::HasFailure()) return;
  }
}

void expect_sums(const Tensor& want, const Tensor& got) {
  // Where sums in another order fall to the other side of a rounding.
  const int ulp = want.type().dtype == DType::kF32   ? -23
                  : want.type().dtype == DType::kF16 ? -10
                                                     : -7;
  const Tensor r = want.to(DType::kF32);
  const Tensor y = got.to(DType::kF32);
  for (size_t i = 0; i < r.values<float>().size(); ++i) {
    const auto w = static_cast<double>(r.values<float>()[i]);
    EXPECT_NEAR(static_cast<double>(y.values<float>()[i]), w,
                std::ldexp(std::fabs(w), ulp) + std::ldexp(1.0, -40))
        << "sum " << i;
  }
}

}  // namespace halftone::conformance
