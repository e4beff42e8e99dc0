// The variant of all op attributes, op kinds, and the questions a kernel may ask about an op.
#pragma once

#include <string>
#include <variant>

#include "graph/ops/add.h"
#include "graph/ops/affine.h"
#include "graph/ops/attention.h"
#include "graph/ops/cast.h"
#include "graph/ops/concat.h"
#include "graph/ops/conv2d.h"
#include "graph/ops/embedding.h"
#include "graph/ops/geglu.h"
#include "graph/ops/group_norm.h"
#include "graph/ops/guidance.h"
#include "graph/ops/layer_norm.h"
#include "graph/ops/linear.h"
#include "graph/ops/linear_update.h"
#include "graph/ops/max_pool.h"
#include "graph/ops/norm_weight.h"
#include "graph/ops/quantize.h"
#include "graph/ops/reduce.h"
#include "graph/ops/reshape.h"
#include "graph/ops/scale.h"
#include "graph/ops/scale_input.h"
#include "graph/ops/select_row.h"
#include "graph/ops/sinusoidal.h"
#include "graph/ops/slice.h"
#include "graph/ops/subpixel.h"
#include "graph/ops/to_bytes.h"
#include "graph/ops/transpose.h"
#include "graph/ops/unary.h"
#include "graph/ops/upsample.h"

namespace halftone::graph {

struct NoOp {  // first alternative, so that the list below can begin each entry with a comma
  static constexpr std::string_view kName = "none";
  template <class Self, class F>
  static void fields(Self&, F&&) {}
  bool operator==(const NoOp&) const = default;
};
std::vector<TensorType> infer(const NoOp& op, std::span<const TypedOperand> in);

using OpAttrs = std::variant<NoOp
#define HALFTONE_OP(Name) , Name
#include "graph/ops/ops.inc"
#undef HALFTONE_OP
                             >;

// Position in OpAttrs.
enum class OpKind : uint8_t {
  kNoOp,
#define HALFTONE_OP(Name) k##Name,
#include "graph/ops/ops.inc"
#undef HALFTONE_OP
  kCount
};

[[nodiscard]] inline OpKind kind_of(const OpAttrs& attrs) {
  return static_cast<OpKind>(attrs.index());
}
// "linear", "conv2d", ...
[[nodiscard]] std::string_view name_of(const OpAttrs& attrs);
[[nodiscard]] std::string_view name_of(OpKind kind);
// Output types; throws kInvalidArgument naming op and operand when the inputs do not fit.
[[nodiscard]] std::vector<TensorType> infer_types(const OpAttrs& attrs,
                                                  std::span<const TypedOperand> in);
// The same with roles: the first is kY; behind it come a dynamic scale (kYScale) or statistics.
[[nodiscard]] std::vector<TypedOperand> infer_outputs(const OpAttrs& attrs,
                                                      std::span<const TypedOperand> in);
// Role of an output.
[[nodiscard]] Role output_role(const OpAttrs& attrs, size_t index);
// Attributes as text, "linear{activation=silu geglu=false}", and back (kCorruptFile when
// malformed). A field with a default (third argument in `fields`) is left out where it has it.
[[nodiscard]] std::string print_attrs(const OpAttrs& attrs);
[[nodiscard]] OpAttrs parse_attrs(std::string_view text);

// All that a kernel may ask about the call it is to serve.
struct OpDesc {
  const OpAttrs& attrs;
  std::span<const TypedOperand> inputs;
  std::span<const TypedOperand> outputs;

  template <class Op>
  [[nodiscard]] const Op& as() const {
    return std::get<Op>(attrs);
  }
  [[nodiscard]] const TensorType* input(Role role) const { return find_operand(inputs, role); }
  [[nodiscard]] const TensorType& output() const { return outputs.front().type; }
};

// Whether a linear or convolution describes its result in a further output: statistics or amax.
[[nodiscard]] bool makes_statistics(const OpDesc& desc);

// Whether an attention computes its queries itself (graph/ops/attention.h); few kernels do that.
[[nodiscard]] inline bool projects_queries(const OpDesc& desc) {
  return std::holds_alternative<Attention>(desc.attrs) && projects_queries(desc.inputs);
}

// Whether rows of an operand may be pitched: slices of a merged linear.
[[nodiscard]] inline bool takes_pitched_rows(const OpAttrs& attrs, Role role) {
  return std::holds_alternative<Attention>(attrs) &&
         (role == Role::kQ || role == Role::kK || role == Role::kV);
}

// Whether a convolution's results are interleaved (graph/ops/conv2d.h); few kernels do that.
[[nodiscard]] inline bool is_interleaved(const OpDesc& desc) {
  const auto* conv = std::get_if<Conv2d>(&desc.attrs);
  return conv != nullptr && conv->interleaved;
}

// Whether a linear takes or gives row statistics (graph/ops/linear.h); few kernels do that.
[[nodiscard]] inline bool has_row_statistics(const OpDesc& desc) {
  const auto* linear = std::get_if<Linear>(&desc.attrs);
  return linear != nullptr &&
         (linear->row_statistics || desc.input(Role::kRowStatistics) != nullptr);
}

}  // namespace halftone::graph
