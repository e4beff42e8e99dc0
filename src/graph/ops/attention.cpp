#include "graph/ops/attention.h"

#include <fmt/format.h>

namespace halftone::graph {

std::vector<TensorType> infer(const Attention& op, std::span<const TypedOperand> in) {
  const TensorType& q = need_operand(in, Role::kQ, "attention");
  const TensorType& k = need_operand(in, Role::kK, "attention");
  const TensorType& v = need_operand(in, Role::kV, "attention");
  require(q.shape.rank() == 3 && k.shape.rank() == 3 && k.shape == v.shape, "attention",
          "wants q [b, tq, c] and k, v [b, tk, c]");
  require(q.shape[0] == k.shape[0] && q.shape[2] == k.shape[2], "attention",
          fmt::format("q {} does not fit k {}", to_string(q), to_string(k)));
  require(op.heads >= 1 && q.shape[2] % op.heads == 0, "attention",
          fmt::format("{} channels do not divide into {} heads", q.shape[2], op.heads));
  require(!op.causal || q.shape[1] == k.shape[1], "attention",
          "causal wants as many keys as queries");
  return {q};
}

}  // namespace halftone::graph
