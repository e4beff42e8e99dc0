// Dequantize → linear, conv2d or attention becomes the op on quantized operands; a Quantize joins
// the norm, linear, convolution or attention that makes its input. Only what a kernel runs is
// folded: the rest stays an exact simulation.
#include <optional>
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Granularity;
using graph::Graph;
using graph::Node;
using graph::Role;
using graph::ValueId;

// A value as codes and their scale.
struct Codes {
  ValueId q, scale;
};

const Node* producer(Rewriter& rewriter, ValueId value) {
  const auto index = rewriter.producer(value);
  return index ? &rewriter.node(*index) : nullptr;
}

// The codes behind a Dequantize without zero point.
std::optional<Codes> dequantized(Rewriter& rewriter, ValueId value, bool is_weight) {
  const Node* node = producer(rewriter, value);
  if (node == nullptr) return std::nullopt;
  const auto* op = std::get_if<graph::Dequantize>(&node->attrs);
  if (op == nullptr || Rewriter::operand(*node, Role::kXZero) != graph::kNoValue) {
    return std::nullopt;
  }
  const bool weight_scale =
      op->granularity == Granularity::kPerChannel || op->granularity == Granularity::kUniform;
  if (weight_scale != is_weight || (!is_weight && op->bits != 8)) return std::nullopt;
  return Codes{Rewriter::operand(*node, Role::kX), Rewriter::operand(*node, Role::kXScale)};
}

class Folder {
 public:
  Folder(Graph& graph, const HasKernel& has_kernel)
      : graph_(graph), rewriter_(graph), has_kernel_(has_kernel) {}

  void fold_operands() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) {
      const Node& node = rewriter_.node(i);
      if (std::holds_alternative<graph::Linear>(node.attrs) ||
          std::holds_alternative<graph::Conv2d>(node.attrs)) {
        fold_operands(i);
      } else if (std::holds_alternative<graph::Attention>(node.attrs)) {
        fold_attention(i);
      }
    }
    rewriter_.commit();
  }

  // Quantize(upsample(x)) becomes upsample(Quantize(x)), which is equal: fewer values to round, and
  // the codes may join what makes x.
  void quantize_before_upsampling() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) {
      const Node quantize = rewriter_.node(i);
      const auto* op = std::get_if<graph::Quantize>(&quantize.attrs);
      if (op == nullptr || op->granularity != Granularity::kPerTensor) continue;
      const ValueId x = Rewriter::operand(quantize, Role::kX);
      const auto from = rewriter_.producer(x);
      if (!from || rewriter_.num_uses(x) != 1 ||
          !std::holds_alternative<graph::Upsample>(rewriter_.node(*from).attrs)) {
        continue;
      }
      const ValueId small = Rewriter::operand(rewriter_.node(*from), Role::kX);
      Node moved = quantize;
      for (graph::Operand& operand : moved.inputs) {
        if (operand.role == Role::kX) operand.value = small;
      }
      const graph::Rate rate = graph_.value(x).rate;
      moved.outputs[0] =
          graph_.new_value(quantize.name, {op->dtype, graph_.type(small).shape}, rate);
      Node enlarged = rewriter_.node(*from);
      enlarged.inputs = {{Role::kX, moved.outputs[0]}};
      enlarged.outputs = {quantize.outputs[0]};
      rewriter_.fuse(*from, i, std::move(enlarged));
      rewriter_.insert_before(i, {std::move(moved)});
    }
    rewriter_.commit();
  }

  void fold_results() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) {
      if (rewriter_.is_removed(i)) continue;
      const auto* op = std::get_if<graph::Quantize>(&rewriter_.node(i).attrs);
      if (op != nullptr && op->bits == 8 && !op->narrow) fold_result(i, *op);
    }
    rewriter_.commit();
  }

 private:
  void fold_operands(size_t index) {
    Node folded = rewriter_.node(index);
    const TensorType& y = graph_.type(folded.outputs[0]);
    const ValueId x = Rewriter::operand(folded, Role::kX);
    const ValueId weight = Rewriter::operand(folded, Role::kWeight);
    const Node* input = producer(rewriter_, x);
    const bool quantized_x =
        input != nullptr && std::holds_alternative<graph::Dequantize>(input->attrs);
    const std::optional<Codes> x_codes = dequantized(rewriter_, x, false);
    if (quantized_x && !x_codes) return;
    fresh_.clear();
    const std::optional<Codes> w_codes = weight_codes(weight);
    if (!w_codes) return;
    const auto put = [&](Role role, ValueId value) {
      for (graph::Operand& operand : folded.inputs) {
        if (operand.role == role) operand.value = value;
      }
    };
    put(Role::kWeight, w_codes->q);
    folded.inputs.push_back({Role::kWScale, w_codes->scale});
    if (x_codes) {
      put(Role::kX, x_codes->q);
      folded.inputs.push_back({Role::kXScale, x_codes->scale});
      if (auto* linear = std::get_if<graph::Linear>(&folded.attrs)) linear->out = y.dtype;
      if (auto* conv = std::get_if<graph::Conv2d>(&folded.attrs)) conv->out = y.dtype;
    }
    if (!accepted_outputs(graph_, folded, has_kernel_)) return;
    rewriter_.insert_before(index, std::move(fresh_));
    rewriter_.node(index) = std::move(folded);
  }

  // q and k both, and v, as far as they are codes.
  void fold_attention(size_t index) {
    Node folded = rewriter_.node(index);
    const TensorType& y = graph_.type(folded.outputs[0]);
    fresh_.clear();
    const auto codes_of = [&](Role role) { return head_codes(Rewriter::operand(folded, role)); };
    const auto put = [&](Role role, Role scale_role, const Codes& codes) {
      for (graph::Operand& operand : folded.inputs) {
        if (operand.role == role) operand.value = codes.q;
      }
      folded.inputs.push_back({scale_role, codes.scale});
    };
    const std::optional<Codes> q = codes_of(Role::kQ);
    const std::optional<Codes> k = codes_of(Role::kK);
    const std::optional<Codes> v = codes_of(Role::kV);
    if (q && k) {
      put(Role::kQ, Role::kQScale, *q);
      put(Role::kK, Role::kKScale, *k);
      std::get<graph::Attention>(folded.attrs).out = y.dtype;
    }
    if (v) put(Role::kV, Role::kVScale, *v);
    if (!(q && k) && !v) return;
    if (!accepted_outputs(graph_, folded, has_kernel_)) return;
    rewriter_.insert_before(index, std::move(fresh_));
    rewriter_.node(index) = std::move(folded);
  }

  // Codes of q, k or v; those of a head's part a scale are reshaped as their values were.
  std::optional<Codes> head_codes(ValueId value) {
    if (auto codes = dequantized(rewriter_, value, false)) return codes;
    const Node* joined = producer(rewriter_, value);
    if (joined == nullptr || !std::holds_alternative<graph::Reshape>(joined->attrs)) {
      return std::nullopt;
    }
    const ValueId parts = Rewriter::operand(*joined, Role::kX);
    const auto codes = dequantized(rewriter_, parts, false);
    if (!codes) return std::nullopt;
    TensorType type = graph_.type(value);
    type.dtype = graph_.type(codes->q).dtype;
    Node reshape{joined->attrs, {{Role::kX, codes->q}}, {}, joined->name};
    reshape.outputs = {graph_.new_value(joined->name, type, graph_.value(value).rate)};
    const Codes result{reshape.outputs[0], codes->scale};
    fresh_.push_back(std::move(reshape));
    return result;
  }

  // Codes of a weight, or of joined weights (merged q, k, v): then the codes are joined.
  std::optional<Codes> weight_codes(ValueId weight) {
    if (auto codes = dequantized(rewriter_, weight, true)) return codes;
    const Node* joined = producer(rewriter_, weight);
    if (joined == nullptr || !std::holds_alternative<graph::Concat>(joined->attrs) ||
        std::get<graph::Concat>(joined->attrs).axis != 0) {
      return std::nullopt;
    }
    Node q{graph::Concat{0}, {}, {}, joined->name};
    Node scale = q;
    for (const graph::Operand& part : joined->inputs) {
      const auto codes = dequantized(rewriter_, part.value, true);
      if (!codes) return std::nullopt;
      q.inputs.push_back({Role::kX, codes->q});
      scale.inputs.push_back({Role::kX, codes->scale});
    }
    for (Node* node : {&q, &scale}) {
      const TensorType& first = graph_.type(node->inputs.front().value);
      for (const graph::Operand& part : node->inputs) {
        if (graph_.type(part.value).dtype != first.dtype) return std::nullopt;
      }
      const auto types = infer_types(node->attrs, graph_.typed_inputs(*node));
      node->outputs = {graph_.new_value(node->name, types[0], graph::Rate::kLoad)};
    }
    const Codes codes{q.outputs[0], scale.outputs[0]};
    fresh_.push_back(std::move(q));
    fresh_.push_back(std::move(scale));
    return codes;
  }

  void fold_result(size_t index, const graph::Quantize& op) {
    const Node quantize = rewriter_.node(index);
    if (Rewriter::operand(quantize, Role::kGamma) != graph::kNoValue ||
        Rewriter::operand(quantize, Role::kXZero) != graph::kNoValue) {
      return;
    }
    const ValueId x = Rewriter::operand(quantize, Role::kX);
    auto from = rewriter_.producer(x);
    if (!from || rewriter_.num_uses(x) != 1) return;
    std::optional<size_t> reshape;
    if (std::holds_alternative<graph::Reshape>(rewriter_.node(*from).attrs)) {
      const ValueId before = Rewriter::operand(rewriter_.node(*from), Role::kX);
      if (rewriter_.num_uses(before) != 1 ||
          graph_.type(before).shape[-1] != graph_.type(x).shape[-1]) {
        return;
      }
      reshape = from;
      from = rewriter_.producer(before);
      if (!from) return;
    }
    std::optional<Node> fused = ending_in(rewriter_.node(*from), op, quantize);
    if (!fused || !accepted_outputs(graph_, *fused, has_kernel_)) return;
    if (!reshape) {
      fused->outputs = quantize.outputs;
      rewriter_.fuse(*from, index, std::move(*fused));
      return;
    }
    // The codes are reshaped instead of the values.
    TensorType codes = graph_.type(rewriter_.node(*from).outputs[0]);
    codes.dtype = op.dtype;
    const graph::Rate rate = graph_.value(quantize.outputs[0]).rate;
    fused->outputs = {graph_.new_value(fused->name, codes, rate)};
    if (op.dynamic) fused->outputs.push_back(quantize.outputs[1]);
    Node moved = rewriter_.node(*reshape);
    moved.inputs = {{Role::kX, fused->outputs[0]}};
    moved.outputs = {quantize.outputs[0]};
    rewriter_.remove(*from);
    rewriter_.fuse(*reshape, index, std::move(moved));
    rewriter_.insert_before(index, {std::move(*fused)});
  }

  // `node` with the quantization at its end, or nothing when its kind has none.
  static std::optional<Node> ending_in(const Node& node, const graph::Quantize& op,
                                       const Node& quantize) {
    Node fused = node;
    const auto end_norm = [&](auto& norm) {
      norm.out = op.dtype;
      norm.granularity = op.granularity;
      norm.dynamic = op.dynamic;
    };
    // A product that adds floats is left alone: the fast kernels stage the residual where the codes
    // would lie, and a pass of its own is a small part of such a product.
    const bool is_static = !op.dynamic && op.granularity == Granularity::kPerTensor &&
                           Rewriter::operand(node, Role::kResidual) == graph::kNoValue;
    if (auto* group = std::get_if<graph::GroupNorm>(&fused.attrs)) {
      end_norm(*group);
    } else if (auto* layer = std::get_if<graph::LayerNorm>(&fused.attrs)) {
      end_norm(*layer);
    } else if (auto* linear = std::get_if<graph::Linear>(&fused.attrs); linear && is_static) {
      linear->out = op.dtype;
    } else if (auto* conv = std::get_if<graph::Conv2d>(&fused.attrs); conv && is_static) {
      conv->out = op.dtype;
    } else if (auto* attention = std::get_if<graph::Attention>(&fused.attrs);
               attention && is_static) {
      attention->out = op.dtype;
    } else {
      return std::nullopt;
    }
    if (!op.dynamic) {
      fused.inputs.push_back({Role::kYScale, Rewriter::operand(quantize, Role::kXScale)});
    }
    return fused;
  }

  Graph& graph_;
  Rewriter rewriter_;
  const HasKernel& has_kernel_;
  std::vector<Node> fresh_;
};

void run(Graph& graph, const HasKernel& has_kernel) {
  Folder(graph, has_kernel).fold_operands();
  drop_dead_nodes(graph);
  Folder(graph, has_kernel).quantize_before_upsampling();
  Folder(graph, has_kernel).fold_results();
}

}  // namespace

extern const Pass kPass_fold_quantize;
const Pass kPass_fold_quantize{
    "fold_quantize", "quantized operands and results of linear, conv2d, attention and norms", false,
    nullptr, run};

}  // namespace halftone::compile
