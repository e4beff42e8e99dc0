// Vocabulary shared by all op definitions: operand roles, typed operands, activations.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace halftone::graph {

// How often a value can change; a node's rate is the highest of its inputs'.
enum class Rate : uint8_t { kLoad, kPrompt, kSchedule, kStep };

// What an operand means to its op. Optional roles may be absent; order in a node is free except
// where an op takes several operands of role kX.
enum class Role : uint8_t {
  kX,         // main input(s)
  kWeight,    // [out, in] or [out, kh, kw, in]; embedding table [rows, channels]
  kBias,      // [out]
  kRowAdd,    // [n, out]: added to every position of batch row n (time embedding)
  kResidual,  // same shape as the output, added after the activation
  kGamma,     // norm scale [channels]
  kBeta,      // norm shift [channels]
  kQ,
  kK,
  kV,
  kIndex,            // i32 indices
  kCoefficients,     // f32[kNumStepCoefficients]
  kState,            // f32[kMaxState, n, h, w, c]
  kNoise,            // f32[n, h, w, c]
  kXScale,           // f32[1], or f32[rows] per token: scale of a quantized x
  kWScale,           // f32[out]: scale of a quantized weight
  kYScale,           // f32[1]: static scale of a quantized output; as an output: dynamic scale
  kXZero,            // i32[1]: zero point of x
  kQScale,           // f32[1], or f32[tokens * heads]: scales of a quantized q
  kKScale,           // of a quantized k
  kVScale,           // f32[1]: scale of a quantized v
  kGroupStatistics,  // f32[n, groups, pieces, 2]: graph/ops/group_norm.h; also an output
  kRowStatistics,    // f32: of x's rows (graph/ops/linear.h)
  kColumnSum,        // f32[out]: sums of a weight's rows
  kJoined,           // an output: what a group norm read (graph/ops/group_norm.h)
  kAmax,             // f32: largest magnitudes of x (graph/ops/quantize.h); also an output
  kY,                // output
};

enum class Activation : uint8_t { kNone, kSilu, kGelu, kGeluTanh, kQuickGelu };

// Which elements of a tensor share a scale or a statistic.
enum class Granularity : uint8_t {
  kPerTensor,   // all
  kPerChannel,  // equal index of axis 0 (weights)
  kPerToken,    // a row: all axes but the last
  kUniform,     // all, the scale repeated along axis 0 (weights quantized per tensor)
  kPerColumn,   // equal index of the last axis (statistics only)
};

enum class Reduction : uint8_t { kAbsMax, kMin, kMax, kSumSquares };

struct TypedOperand {
  Role role;
  TensorType type;
};

// First operand of a role, or null.
[[nodiscard]] const TensorType* find_operand(std::span<const TypedOperand> operands, Role role);
// First operand of a role; throws kInvalidArgument "op: needs operand role" when absent.
[[nodiscard]] const TensorType& need_operand(std::span<const TypedOperand> operands, Role role,
                                             std::string_view op);
// Throws kInvalidArgument "op: text" unless condition.
void require(bool condition, std::string_view op, std::string_view text);

[[nodiscard]] std::string_view to_string(Rate rate);
[[nodiscard]] std::string_view to_string(Role role);
[[nodiscard]] std::string_view to_string(Activation activation);
[[nodiscard]] std::string_view to_string(Granularity granularity);
[[nodiscard]] std::string_view to_string(Reduction reduction);
[[nodiscard]] Rate parse_rate(std::string_view name);
[[nodiscard]] Role parse_role(std::string_view name);
[[nodiscard]] Activation parse_activation(std::string_view name);
[[nodiscard]] Granularity parse_granularity(std::string_view name);
[[nodiscard]] Reduction parse_reduction(std::string_view name);

}  // namespace halftone::graph
