#pragma once

#include "case.h"

namespace halftone::conformance {

// What follows the products of a quantized linear or convolution.
struct QuantizedEnd {
  DType out = DType::kF32;  // i8, f8e4m3: quantized again
  Activation activation = Activation::kNone;
  bool row_add = false;
  bool residual = false;
  bool token_scales = false;  // of x, one a row
};

// Sums of integer products are exact, and so is all that follows but an activation: there the float
// before the last rounding may differ by a few units, and a quantized result by one code. Sums of
// f8 products, or of floating rows with integer weights, are sums in f32 of `terms`.
inline void set_bounds(Case& c, DType x, const QuantizedEnd& end, bool geglu, int64_t terms) {
  const bool exact = x == DType::kI8 && end.activation == Activation::kNone && !geglu;
  if (exact) return;
  c.roundings = 1.0;
  c.depth = (x == DType::kI8 ? 0.0 : static_cast<double>(terms)) + 16.0;
  c.steps = 1;
}

inline void add_end(Case& c, const QuantizedEnd& end, int64_t weight_rows, int64_t batch,
                    const Shape& y, bool quantized_x) {
  const DType around = end.out == DType::kBF16 || end.out == DType::kF16 ? end.out : DType::kF32;
  const int64_t rows = y.num_rows();
  if (quantized_x) {
    c.inputs.push_back(
        {Role::kXScale, {DType::kF32, {end.token_scales ? rows : 1}}, Fill::kScales});
  }
  c.inputs.push_back({Role::kWScale, {DType::kF32, {weight_rows}}, Fill::kScales});
  c.inputs.push_back({Role::kBias, {around, {weight_rows}}, Fill::kNormal});
  if (end.row_add)
    c.inputs.push_back({Role::kRowAdd, {around, {batch, weight_rows}}, Fill::kNormal});
  if (end.residual) c.inputs.push_back({Role::kResidual, {around, y}, Fill::kNormal});
  if (size_of(end.out) == 1) c.inputs.push_back({Role::kYScale, {DType::kF32, {1}}, Fill::kScales});
}

inline std::string text(const QuantizedEnd& end) {
  return std::string(to_string(end.out)) + " " + std::string(to_string(end.activation)) +
         (end.row_add ? " row_add" : "") + (end.residual ? " residual" : "") +
         (end.token_scales ? " token" : "");
}

// `bits` of the weight: 8, or packed 4 or 2.
inline std::vector<Case> quantized_linear_cases() {
  struct Size {
    int64_t batch, rows, in, out;
  };
  std::vector<Case> cases;
  const auto add = [&](DType x, DType weight, int64_t bits, Size s, QuantizedEnd end, bool geglu) {
    Case c;
    const int64_t weight_rows = geglu ? 2 * s.out : s.out;
    c.name = "quantized " + std::string(to_string(x)) + "," + std::string(to_string(weight)) +
             std::to_string(bits) + " " + text({s.batch, s.rows, s.in, s.out}) + " " + text(end) +
             (geglu ? " geglu" : "");
    const bool quantized_x = size_of(x) == 1;
    graph::Linear op{end.activation, geglu};
    if (quantized_x || size_of(end.out) == 1) op.out = end.out;
    c.attrs = op;
    c.inputs = {
        {Role::kX, {x, {s.batch, s.rows, s.in}}, quantized_x ? Fill::kCodes : Fill::kNormal},
        {Role::kWeight, {weight, {weight_rows, s.in * bits / 8}}, Fill::kCodes}};
    add_end(c, end, weight_rows, s.batch, {s.batch, s.rows, s.out}, quantized_x);
    set_bounds(c, x, end, geglu, s.in);
    cases.push_back(std::move(c));
  };
  for (const DType out : {DType::kF32, DType::kBF16, DType::kF16, DType::kI8}) {
    add(DType::kI8, DType::kI8, 8, {1, 64, 64, 64}, {out}, false);
    add(DType::kI8, DType::kI8, 8, {2, 37, 52, 77}, {out, Activation::kNone, false, true}, false);
    add(DType::kI8, DType::kI8, 8, {3, 13, 601, 33}, {out, Activation::kNone, true, true, true},
        false);
    add(DType::kI8, DType::kI8, 8, {1, 1, 1, 1}, {out}, false);
    add(DType::kI8, DType::kI8, 8, {1, 320, 128, 96}, {out, Activation::kNone, false, false, true},
        false);
    add(DType::kI8, DType::kU8, 4, {1, 40, 200, 40}, {out, Activation::kNone, false, true, true},
        false);
    add(DType::kI8, DType::kU8, 2, {2, 19, 64, 50}, {out}, false);
    add(DType::kI8, DType::kI8, 8, {2, 20, 48, 50}, {out, Activation::kSilu, true, true, true},
        false);
    add(DType::kI8, DType::kI8, 8, {1, 48, 64, 80}, {out, Activation::kNone, false, false, true},
        true);
    add(DType::kI8, DType::kU8, 4, {2, 21, 34, 45}, {out, Activation::kNone, true, true, false},
        true);
  }
  for (const DType t : kFloats) {
    for (const auto& [weight, bits] :
         {std::pair{DType::kI8, 8}, std::pair{DType::kU8, 4}, std::pair{DType::kF8E4M3, 8}}) {
      add(t, weight, bits, {1, 77, 64, 96}, {t}, false);
      add(t, weight, bits, {2, 21, 70, 45}, {t, Activation::kGelu, true, true}, false);
      add(t, weight, bits, {1, 5, 34, 40}, {t}, true);
    }
  }
  // Rows of 16 bytes, which tensor cores take: terms split over blocks, ragged tiles, every
  // epilogue.
  for (const DType t : {DType::kF16, DType::kBF16}) {
    for (const auto& [weight, bits] : {std::pair{DType::kI8, 8}, std::pair{DType::kU8, 4},
                                       std::pair{DType::kU8, 2}, std::pair{DType::kF8E4M3, 8}}) {
      add(t, weight, bits, {1, 77, 1088, 72}, {t}, false);
      add(t, weight, bits, {2, 21, 320, 45}, {t, Activation::kGelu, true, true}, false);
      add(t, weight, bits, {2, 65, 192, 136}, {t, Activation::kNone, false, true}, true);
      add(t, weight, bits, {1, 1, 576, 96}, {t, Activation::kSilu}, false);
      add(t, weight, bits, {1, 90, 64, 80}, {DType::kI8}, false);
      if (bits != 8) continue;
      // Few tokens of a text, ragged in all three sizes; more outputs than tiles of one wave.
      add(t, weight, bits, {2, 77, 2064, 136}, {t, Activation::kNone, false, true}, false);
      add(t, weight, bits, {1, 160, 80, 1304}, {t, Activation::kQuickGelu, false, true}, false);
      add(t, weight, bits, {1, 154, 16, 8584}, {t}, false);
      for (const Size& s : {Size{1, 77, 272, 72}, {1, 77, 48, 2568}, {1, 77, 80, 8584}}) {
        add(t, weight, bits, s, {t}, false);
        cases.back().name += " no bias";
        std::erase_if(cases.back().inputs, [](const auto& in) { return in.role == Role::kBias; });
      }
    }
    add(t, DType::kI8, 8, {1, 1400, 48, 1536}, {t, Activation::kNone, false, true}, false);
  }
  add(DType::kF16, DType::kU8, 4, {1, 1400, 32, 1536}, {DType::kF16}, false);
  for (const DType out : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    add(DType::kF8E4M3, DType::kF8E4M3, 8, {2, 21, 70, 45},
        {out, Activation::kNone, true, true, true}, false);
    add(DType::kF8E4M3, DType::kF8E4M3, 8, {1, 30, 64, 80}, {out}, true);
  }
  // Few rows of long sums, which are split.
  for (const DType out : {DType::kF16, DType::kI8}) {
    const QuantizedEnd end{out, Activation::kNone, false, out == DType::kF16, true};
    add(DType::kI8, DType::kI8, 8, {1, 77, 1088, 72}, end, false);
    add(DType::kI8, DType::kU8, 4, {2, 45, 1088, 72}, end, false);
    add(DType::kI8, DType::kU8, 2, {1, 9, 1088, 72}, end, false);
    add(DType::kI8, DType::kI8, 8, {1, 130, 464, 80}, end, true);
    add(DType::kI8, DType::kI8, 8, {1, 130, 464, 80}, {out}, true);
    add(DType::kF8E4M3, DType::kF8E4M3, 8, {1, 130, 464, 80}, end, false);
  }
  // The values of an attention in 8 bits.
  add(DType::kI8, DType::kI8, 8, {1, 200, 128, 192},
      {DType::kF8E4M3, Activation::kNone, false, false, true}, false);
  return cases;
}

inline std::vector<Case> quantized_conv2d_cases() {
  struct Size {
    int64_t batch, height, width, in, out, kernel, stride, begin, end;
  };
  std::vector<Case> cases;
  const auto add = [&](DType x, DType weight, int64_t bits, Size s, QuantizedEnd end) {
    Case c;
    c.name = "quantized " + std::string(to_string(x)) + "," + std::string(to_string(weight)) +
             std::to_string(bits) + " " +
             text({s.batch, s.height, s.width, s.in, s.out, s.kernel, s.stride}) + " " + text(end);
    const bool quantized_x = size_of(x) == 1;
    graph::Conv2d op{s.stride, s.begin, s.end, end.activation};
    if (quantized_x || size_of(end.out) == 1) op.out = end.out;
    c.attrs = op;
    const auto extent = [&](int64_t n) { return (n + s.begin + s.end - s.kernel) / s.stride + 1; };
    c.inputs = {
        {Role::kX,
         {x, {s.batch, s.height, s.width, s.in}},
         quantized_x ? Fill::kCodes : Fill::kNormal},
        {Role::kWeight, {weight, {s.out, s.kernel, s.kernel, s.in * bits / 8}}, Fill::kCodes}};
    add_end(c, end, s.out, s.batch, {s.batch, extent(s.height), extent(s.width), s.out},
            quantized_x);
    set_bounds(c, x, end, false, s.kernel * s.kernel * s.in);
    cases.push_back(std::move(c));
  };
  for (const DType out : {DType::kF32, DType::kBF16, DType::kI8}) {
    add(DType::kI8, DType::kI8, 8, {1, 16, 16, 64, 64, 3, 1, 1, 1}, {out});
    add(DType::kI8, DType::kI8, 8, {2, 9, 7, 19, 21, 3, 1, 1, 1},
        {out, Activation::kNone, true, true});
    add(DType::kI8, DType::kI8, 8, {2, 8, 6, 64, 32, 1, 1, 0, 0},
        {out, Activation::kNone, false, true});
    add(DType::kI8, DType::kI8, 8, {2, 16, 16, 128, 40, 1, 1, 0, 0},
        {out, Activation::kNone, true, false});
    add(DType::kI8, DType::kI8, 8, {1, 10, 36, 32, 32, 3, 2, 1, 1}, {out});
    // Wide enough that tiles of positions lie between the edges.
    add(DType::kI8, DType::kI8, 8, {2, 5, 66, 64, 40, 3, 1, 1, 1},
        {out, Activation::kNone, true, true});
    add(DType::kI8, DType::kI8, 8, {1, 9, 97, 128, 32, 3, 2, 1, 1}, {out});
    add(DType::kI8, DType::kI8, 8, {1, 11, 8, 16, 24, 3, 2, 0, 1}, {out, Activation::kSilu});
    add(DType::kI8, DType::kU8, 4, {1, 6, 17, 66, 40, 3, 1, 1, 1},
        {out, Activation::kNone, true, true});
    add(DType::kI8, DType::kU8, 4, {2, 6, 17, 32, 40, 3, 1, 1, 1},
        {out, Activation::kNone, true, true});
    add(DType::kI8, DType::kU8, 2, {3, 9, 7, 64, 72, 3, 2, 1, 1}, {out});
  }
  // What tensor cores take: rows of 16 bytes, images of a multiple of 64 pixels where a row is
  // added.
  // Whole panels of every parity, and tiles between the edges.
  for (const DType out : {DType::kF32, DType::kBF16}) {
    for (const Size& size : {Size{2, 3, 50, 64, 256, 2, 1, 1, 1}, {2, 4, 5, 24, 128, 1, 1, 0, 0}}) {
      add(DType::kI8, DType::kI8, 8, size, {out});
      cases.back().name += " interleaved panels";
      std::get<graph::Conv2d>(cases.back().attrs).interleaved = true;
    }
  }
  for (const DType x : {DType::kI8, DType::kF8E4M3}) {
    for (const bool more : {false, true}) {
      const QuantizedEnd end{DType::kF16, Activation::kNone, more, more};
      add(x, x, 8, {2, 16, 8, 80, 48, 3, 1, 1, 1}, end);
      add(x, x, 8, {3, 8, 8, 144, 168, 3, 1, 1, 1}, end);
      add(x, x, 8, {2, 31, 15, 48, 24, 3, 2, 1, 1}, {DType::kF16, Activation::kNone, false, more});
      add(x, x, 8, {1, 16, 16, 32, 40, 3, 2, 0, 1}, end);
      add(x, x, 8, {2, 7, 9, 64, 56, 1, 1, 0, 0}, {DType::kF16, Activation::kNone, false, more});
      // Channels that end in the first half of a block of 128.
      add(x, x, 8, {1, 8, 16, 320, 40, 3, 1, 1, 1}, end);
      add(x, x, 8, {2, 9, 7, 160, 24, 3, 2, 1, 1}, {DType::kF16, Activation::kNone, false, more});
      add(x, x, 8, {1, 8, 8, 960, 24, 3, 1, 1, 1}, end);
    }
    add(x, x, 8, {2, 9, 7, 80, 192, 2, 1, 1, 1}, {DType::kF16});
    cases.back().name += " interleaved";
    std::get<graph::Conv2d>(cases.back().attrs).interleaved = true;
  }
  for (const DType t : kFloats) {
    add(t, DType::kI8, 8, {1, 8, 8, 32, 40, 3, 1, 1, 1}, {t, Activation::kNone, true, true});
    add(t, DType::kU8, 4, {2, 5, 7, 32, 24, 3, 1, 1, 1}, {t, Activation::kSilu});
  }
  for (const DType out : {DType::kF32, DType::kF8E4M3}) {
    add(DType::kF8E4M3, DType::kF8E4M3, 8, {1, 9, 7, 19, 21, 3, 1, 1, 1},
        {out, Activation::kNone, true, true});
  }
  return cases;
}

}  // namespace halftone::conformance
