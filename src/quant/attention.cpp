#include "quant/attention.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "halftone/error.h"

#include "tensor/quantized.h"

namespace halftone::quant {
namespace {

using graph::Granularity;
using graph::Role;
using graph::ValueId;

// x as codes of `spec`, and back.
ValueId through_codes(Editor& editor, ValueId x, const QuantSpec& spec, int64_t heads, float amax,
                      const std::string& name) {
  const TensorType type = editor.graph().type(x);
  const bool by_part = spec.granularity == Granularity::kPerToken;
  if (by_part) {
    const Shape& s = type.shape;
    x = editor.add(graph::Reshape{{s[0], s[1], heads, s[2] / heads}}, {{Role::kX, x}},
                   name + ".parts");
  }
  std::vector<graph::Operand> inputs{{Role::kX, x}};
  ValueId scale = graph::kNoValue;
  if (!spec.dynamic) {
    const float fitted = scale_for(amax, quantized_largest(spec.dtype, spec.bits));
    scale = editor.literal(name + "_quantizer.scale", std::vector<float>{amax > 0 ? fitted : 1.0F});
    inputs.push_back({Role::kXScale, scale});
  }
  const ValueId codes = editor.add(graph::Quantize{.dtype = spec.dtype,
                                                   .bits = spec.bits,
                                                   .granularity = spec.granularity,
                                                   .dynamic = spec.dynamic},
                                   std::move(inputs), name + "_quantizer");
  if (spec.dynamic) scale = editor.second_output(codes);
  const ValueId back = editor.add(
      graph::Dequantize{.dtype = type.dtype, .bits = spec.bits, .granularity = spec.granularity},
      {{Role::kX, codes}, {Role::kXScale, scale}}, name);
  if (!by_part) return back;
  const Shape& s = type.shape;
  return editor.add(graph::Reshape{{s[0], s[1], s[2]}}, {{Role::kX, back}}, name + ".joined");
}

}  // namespace

bool is_attention(const graph::Node& node) {
  return std::holds_alternative<graph::Attention>(node.attrs);
}

int64_t head_width(const graph::Graph& graph, const graph::Node& attention) {
  return graph.type(operand_of(attention, Role::kQ)).shape[-1] /
         std::get<graph::Attention>(attention.attrs).heads;
}

std::string operand_name(std::string_view attention, Role role) {
  return fmt::format("{}/{}", attention, graph::to_string(role));
}

void quantize_attention(Editor& editor, size_t attention, const AttentionSpec& spec,
                        const AttentionRanges* ranges) {
  check_internal(ranges != nullptr || (spec.qk.dynamic && spec.v.dynamic),
                 "a static attention has ranges");
  const std::string name = editor.graph().nodes()[attention].name;
  auto op = std::get<graph::Attention>(editor.graph().nodes()[attention].attrs);
  const auto put = [&](Role role, const QuantSpec& codes, float amax, bool center) {
    ValueId x = editor.operand(attention, role);
    const std::string operand = fmt::format("{}.{}", name, graph::to_string(role));
    if (center) x = editor.add(graph::Center{}, {{Role::kX, x}}, operand + ".centered");
    x = through_codes(editor, x, codes, op.heads, amax, operand);
    editor.set_operand(attention, role, x);
  };
  put(Role::kQ, spec.qk, ranges == nullptr ? 0 : ranges->q, false);
  put(Role::kK, spec.qk, ranges == nullptr ? 0 : ranges->k, spec.center_keys);
  put(Role::kV, spec.v, ranges == nullptr ? 0 : ranges->v, false);
  op.probabilities = spec.v.dtype;
  editor.set_attrs(attention, op);
}

}  // namespace halftone::quant
