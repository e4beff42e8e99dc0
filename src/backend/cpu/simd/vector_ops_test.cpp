#include "backend/cpu/simd/vector_ops.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_features.h"
#include "tensor/tensor.h"

namespace halftone::backend::cpu {
namespace {

using graph::Activation;

// Implementations that this processor runs.
std::vector<std::pair<std::string, const VectorOps*>> present_ops() {
  std::vector<std::pair<std::string, const VectorOps*>> found;
  if (is_present("avx2")) found.emplace_back("avx2", &vector_ops_avx2());
  if (is_present("avx512")) found.emplace_back("avx512", &vector_ops_avx512());
  if (is_present("avx512_bf16")) found.emplace_back("avx512_bf16", &vector_ops_avx512_bf16());
  return found;
}

// A panel's operands, of which finishes read some.
struct Panel {
  static constexpr int64_t kRows = 11;
  Tensor sums[2], w_scale[2], bias[2], row_add[2], x_scale, residual, y, moments;

  Panel() : x_scale(filled({kRows})), y(Tensor::zeros({DType::kF32, {kRows, kPanelCols}})) {
    for (int side = 0; side < 2; ++side) {
      sums[side] = Tensor({DType::kI32, {kRows, kPanelCols}});
      for (int32_t& sum : sums[side].values<int32_t>()) {
        sum = static_cast<int32_t>(generator_() % 2001U) - 1000;
      }
      w_scale[side] = filled({kPanelCols});
      bias[side] = filled({kPanelCols});
      row_add[side] = filled({kPanelCols});
    }
    residual = filled({kRows, kPanelCols}).to(DType::kBF16);
    moments = Tensor::zeros({DType::kF32, {3, kMomentCols}});
  }
  PanelFinish finish(bool integer, DType out) {
    PanelFinish f;
    f.integer = integer;
    f.out = out;
    f.inverse = 20.0F;
    f.x_scale = x_scale.values<float>().data();
    f.x_scale_step = 1;
    for (int side = 0; side < 2; ++side) {
      f.w_scale[side] = w_scale[side].values<float>().data();
      f.bias[side] = bias[side].values<float>().data();
      f.row_add[side] = row_add[side].values<float>().data();
      f.sums[side] = sums[side].data();
    }
    f.sums_pitch = kPanelCols;
    f.y = y.data();
    f.y_pitch = kPanelCols * static_cast<int64_t>(size_of(out));
    return f;
  }

 private:
  Tensor filled(const Shape& shape) {
    Tensor values({DType::kF32, shape});
    for (float& v : values.values<float>()) {
      v = static_cast<float>(generator_() % 2001U) * 1e-3F - 1.0F;
    }
    return values;
  }
  std::mt19937 generator_{7};
};

// What a finisher makes of all rows in pieces of 4: results, then moments.
std::vector<std::byte> finish_in_pieces(FinishRows finish_rows, PanelFinish f, Panel& panel) {
  const auto clear = [](Tensor& t) { std::fill_n(t.data(), t.type().num_bytes(), std::byte{0}); };
  clear(panel.y);
  clear(panel.moments);
  f.moments_begin = true;
  for (int64_t row = 0; row < Panel::kRows; row += 4) {
    finish_rows(f, std::min<int64_t>(4, Panel::kRows - row), kPanelCols);
  }
  EXPECT_EQ(f.y, panel.y.data() + Panel::kRows * f.y_pitch);
  EXPECT_EQ(f.x_scale, panel.x_scale.values<float>().data() + Panel::kRows);
  std::vector<std::byte> all(panel.y.data(), panel.y.data() + panel.y.type().num_bytes());
  all.insert(all.end(), panel.moments.data(),
             panel.moments.data() + panel.moments.type().num_bytes());
  return all;
}

// The loops for whole panels and those for any panel agree bit for bit.
TEST(VectorOps, WholePanelsAreFinishedAsAnyPanelIs) {
  for (const auto& [name, ops] : present_ops()) {
    for (const int bits : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}) {
      const bool integer = (bits & 1) != 0, codes = (bits & 2) != 0;
      const bool geglu = (bits & 4) != 0, extra = (bits & 8) != 0;
      SCOPED_TRACE(fmt::format("{}: integer {}, codes {}, geglu {}, residual and moments {}", name,
                               integer, codes, geglu, extra));
      if (geglu && extra) continue;
      Panel panel;
      if (!integer) {
        for (Tensor& sums : panel.sums) {
          for (float& v : sums.values<float>()) v = 0.25F;
        }
      }
      PanelFinish f = panel.finish(integer, codes ? DType::kI8 : DType::kBF16);
      f.geglu = geglu;
      if (extra) {
        f.residual = panel.residual.data();
        f.residual_type = DType::kBF16;
        f.residual_pitch = kPanelCols * 2;
        if (!codes) f.moments = panel.moments.values<float>().data();
      }
      const FinishRows whole = ops->whole_finisher(f, extra);
      ASSERT_NE(whole, ops->finisher(f));
      EXPECT_EQ(finish_in_pieces(whole, f, panel), finish_in_pieces(ops->finisher(f), f, panel));
    }
  }
}

TEST(VectorOps, ActivationsHaveNoLoopForWholePanels) {
  for (const auto& [name, ops] : present_ops()) {
    Panel panel;
    PanelFinish f = panel.finish(true, DType::kBF16);
    f.activation = Activation::kGelu;
    EXPECT_EQ(ops->whole_finisher(f, false), ops->finisher(f)) << name;
  }
}

}  // namespace
}  // namespace halftone::backend::cpu
