#include "quant/attention.h"

#include <algorithm>
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

ValueId static_scale(Editor& editor, const QuantSpec& spec, float amax, const std::string& name) {
  const float fitted = scale_for(amax, quantized_largest(spec.dtype, spec.bits));
  return editor.literal(name + "_quantizer.scale", std::vector<float>{amax > 0 ? fitted : 1.0F});
}

// x as codes of `spec`, and back; `scale` is that of a static spec.
ValueId through_codes(Editor& editor, ValueId x, const QuantSpec& spec, int64_t heads,
                      ValueId scale, const std::string& name) {
  const TensorType type = editor.graph().type(x);
  const bool by_part = spec.granularity == Granularity::kPerToken;
  if (by_part) {
    const Shape& s = type.shape;
    x = editor.add(graph::Reshape{{s[0], s[1], heads, s[2] / heads}}, {{Role::kX, x}},
                   name + ".parts");
  }
  std::vector<graph::Operand> inputs{{Role::kX, x}};
  if (!spec.dynamic) inputs.push_back({Role::kXScale, scale});
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

bool is_self_attention(const graph::Graph& graph, const graph::Node& attention) {
  return graph.value(operand_of(attention, Role::kK)).rate >=
         graph.value(attention.outputs[0]).rate;
}

int64_t num_tokens(const graph::Graph& graph, const graph::Node& attention) {
  return std::min(graph.type(operand_of(attention, Role::kQ)).shape[1],
                  graph.type(operand_of(attention, Role::kK)).shape[1]);
}

bool has_one_scale(const graph::Graph& graph, const graph::Node& attention,
                   const AttentionSpec& spec) {
  return !spec.qk.dynamic && spec.qk == spec.v && is_self_attention(graph, attention);
}

void quantize_attention(Editor& editor, size_t attention, const AttentionSpec& spec,
                        const AttentionRanges* ranges) {
  check_internal(ranges != nullptr || (spec.qk.dynamic && spec.v.dynamic),
                 "a static attention has ranges");
  const graph::Node& node = editor.graph().nodes()[attention];
  const std::string name = node.name;
  auto op = std::get<graph::Attention>(node.attrs);
  ValueId shared = graph::kNoValue;
  if (has_one_scale(editor.graph(), node, spec)) {
    check_internal(ranges->k == ranges->q && ranges->v == ranges->q, "one scale, several ranges");
    shared = static_scale(editor, spec.qk, ranges->q, name + ".qkv");
  }
  const auto put = [&](Role role, const QuantSpec& codes, float amax, bool center) {
    ValueId x = editor.operand(attention, role);
    const std::string operand = fmt::format("{}.{}", name, graph::to_string(role));
    if (center) x = editor.add(graph::Center{}, {{Role::kX, x}}, operand + ".centered");
    const ValueId scale = shared != graph::kNoValue ? shared
                          : codes.dynamic           ? graph::kNoValue
                                                    : static_scale(editor, codes, amax, operand);
    x = through_codes(editor, x, codes, op.heads, scale, operand);
    editor.set_operand(attention, role, x);
  };
  put(Role::kQ, spec.qk, ranges == nullptr ? 0 : ranges->q, false);
  put(Role::kK, spec.qk, ranges == nullptr ? 0 : ranges->k, spec.center_keys);
  put(Role::kV, spec.v, ranges == nullptr ? 0 : ranges->v, false);
  op.probabilities = spec.v.dtype;
  editor.set_attrs(attention, op);
}

}  // namespace halftone::quant
