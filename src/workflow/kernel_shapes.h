// The linears, convolutions and attentions that SDXL and SD3 are made of.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/ops/ops.h"

namespace halftone::workflow {

struct KernelShape {
  enum class Kind : uint8_t { kLinear, kGeglu, kConv, kAttention } kind;
  std::string_view network;
  int calls;  // in one forward
  // kLinear, kGeglu: rows, outputs (both halves), inputs. kConv: 3x3 with padding 1 of `batch`
  // images of `size` squared. kAttention: tokens of queries and keys, heads of `width`.
  int64_t batch = 1, rows = 0, out = 0, in = 0, size = 0, keys = 0, heads = 0, width = 0;

  [[nodiscard]] std::string text() const;
  // The op in an element type; 8-bit ones have scales and a 16-bit result.
  [[nodiscard]] graph::OpAttrs attrs(DType dtype) const;
  [[nodiscard]] std::vector<graph::TypedOperand> operands(DType dtype) const;
};

[[nodiscard]] std::span<const KernelShape> kernel_shapes();

}  // namespace halftone::workflow
