// Cases drawn at random, for what no table names: ragged shapes, attributes together, types of
// every operand, quantized forms, tensors without elements.
#pragma once

#include <cstdint>
#include <string_view>

#include "case.h"

namespace halftone::conformance {

// Ops that are drawn together.
enum class Family : uint8_t {
  kLinear,
  kConv2d,
  kAttention,
  kNorm,         // group_norm, layer_norm
  kQuantize,     // quantize, dequantize, scale
  kReduce,       // reduce, histogram, center
  kElementwise,  // unary, affine, add, geglu, cast, to_bytes
  kMovement,     // concat to max_pool, subpixel ops
  kDenoise,      // scale_input, guidance, linear_update
};
inline constexpr Family kFamilies[] = {Family::kLinear,      Family::kConv2d,   Family::kAttention,
                                       Family::kNorm,        Family::kQuantize, Family::kReduce,
                                       Family::kElementwise, Family::kMovement, Family::kDenoise};
[[nodiscard]] std::string_view to_string(Family family);

// The case of a seed, the same with every library. `stream` tells apart sequences of the same
// seeds. A few cases are such as type inference refuses. The name holds seed, attributes and types.
[[nodiscard]] Case random_case(Family family, uint64_t stream, uint64_t seed);

}  // namespace halftone::conformance
