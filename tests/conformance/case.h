// One row of a case table: an op, its operands, what they hold and how exact the answer must be.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "graph/ops/ops.h"

namespace halftone::conformance {

using graph::Activation;
using graph::OpAttrs;
using graph::Role;

// What an operand holds.
enum class Fill : uint8_t {
  kIntegers,         // [-4, 4]: sums of products are exact
  kNormal,           // standard normal, rounded to the operand's type
  kWeights,          // normal, divided by the square root of the row size
  kIndices,          // i32 in [0, 5)
  kCodes,            // every i8 or u8; every f8e4m3 but NaN
  kScales,           // f32 in [0.001, 0.011): positive
  kWideScales,       // f32 in [0.02, 0.03): i8 codes keep most normal values
  kUnitScales,       // f32 in [1, 1.01): f8e4m3 codes are at least 2^-9 apart
  kFar,              // normal around 30
  kRowStatistics,    // what graph/ops/linear.h says of the operand x
  kRowSums,          // of the weight's rows
  kGroupStatistics,  // what graph/ops/group_norm.h says of the operand x
  kAmax,             // what graph/ops/quantize.h says of the operand x
};

struct Input {
  Role role;
  TensorType type;
  Fill fill;
};

struct Case {
  std::string name;
  OpAttrs attrs;
  std::vector<Input> inputs;
  // |y - r| <= roundings * eps(out) * |r| + depth * 2^-23 * magnitude, where magnitude is what the
  // op makes of absolute values. Both 0: equal.
  double roundings = 0.0;
  double depth = 0.0;
  // How many codes a quantized output may be from the reference's; of an attention that rounds its
  // weights, from those of values within the bound above (roundings do not count).
  int steps = 0;
  // The same for f8e4m3 codes up to 16, which are spaced evenly while what is rounded may have
  // the error of larger values.
  int steps_near_zero = 0;
  // Share of the elements that may lie beyond the bound, by less than the magnitude (codes without
  // one: by one code): where a rounded value within the op falls to the other side, because what is
  // rounded differs a little.
  double rare = 0.0;
};

// Element types that each table is repeated for.
inline constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};

inline std::string text(const Shape& shape) { return to_string(shape); }

// All cases; cases.cpp joins the tables.
[[nodiscard]] std::vector<Case> all_cases();

}  // namespace halftone::conformance
