// Linears that read one input as one linear with stacked weights, for the passes that merge them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "compile/rewrite.h"

namespace halftone::compile {

// The nodes that take a linear's result through codes of one static scale, and back.
struct ThroughCodes {
  size_t quantize, dequantize;
};

struct StackMember {
  size_t node;           // the linear
  graph::ValueId value;  // its output
  std::optional<ThroughCodes> codes{};
};

// The linear that makes `value`, if that is read once and nothing is fused into the linear.
[[nodiscard]] std::optional<StackMember> stackable(Rewriter& rewriter, graph::ValueId value);
// The same where `value` is the linear's result through codes, which nothing else reads.
[[nodiscard]] std::optional<StackMember> stackable_codes(Rewriter& rewriter, graph::ValueId value);

// Whether two members read the same input and have weights (and codes) of one kind; results that
// go through codes, through those of one scale.
[[nodiscard]] bool stack_together(Rewriter& rewriter, const StackMember& a, const StackMember& b);

// Bytes of a member's weight as it will be held: of its codes when it is quantized.
[[nodiscard]] size_t weight_bytes(Rewriter& rewriter, const StackMember& member);

// One linear in place of the members, right before node `before`, its columns in the members'
// order; their outputs become slices of its output, which are pitched views. Results that go
// through codes are quantized as one, and the slices are those of the codes.
void stack_linears(Rewriter& rewriter, const std::vector<StackMember>& members, size_t before,
                   const std::string& name);

}  // namespace halftone::compile
