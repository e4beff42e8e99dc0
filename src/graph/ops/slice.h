#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y = x[..., begin:end, ...] along `axis` (negative counts from the end). A slice of the last axis
// becomes a pitched view, one of the first axis a plain view, where the consumer allows it.
struct Slice {
  static constexpr std::string_view kName = "slice";
  int64_t axis = -1;
  int64_t begin = 0;
  int64_t end = 0;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("axis", self.axis);
    f("begin", self.begin);
    f("end", self.end);
  }
  bool operator==(const Slice&) const = default;
};
std::vector<TensorType> infer(const Slice& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
