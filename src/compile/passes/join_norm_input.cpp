// A group norm reads the two parts of a concat as they are, and hands on their join to those who
// want it as well (graph/ops/group_norm.h): as values or, where it is quantized next, as codes. So
// a skip connection of the denoiser is not copied first. A quantization of the norm's own input,
// for a shortcut's convolution, joins it in the same way.
#include <algorithm>
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Graph;
using graph::Node;
using graph::Role;
using graph::ValueId;

class Joiner {
 public:
  Joiner(Graph& graph, const HasKernel& has_kernel)
      : graph_(graph), rewriter_(graph), has_kernel_(has_kernel) {}

  void run() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) {
      if (rewriter_.is_removed(i)) continue;
      if (std::holds_alternative<graph::GroupNorm>(rewriter_.node(i).attrs)) join_input(i);
    }
    rewriter_.commit();
  }

 private:
  void join_input(size_t index) {
    const Node norm = rewriter_.node(index);
    const ValueId x = Rewriter::operand(norm, Role::kX);
    if (std::get<graph::GroupNorm>(norm.attrs).joins || !same_rate(x, norm.outputs[0])) return;
    const auto concat = concat_of(x);
    const auto quantize = quantize_of(x);
    const bool alone = rewriter_.num_uses(x) == 2;
    if (quantize && (!concat || alone) && fuse(index, concat, quantize)) return;
    if (concat) fuse(index, concat, std::nullopt);
  }

  [[nodiscard]] bool same_rate(ValueId a, ValueId b) const {
    return graph_.value(a).rate == graph_.value(b).rate;
  }

  // The concat of two parts along the last axis that makes x.
  std::optional<size_t> concat_of(ValueId x) {
    const auto from = rewriter_.producer(x);
    if (!from) return std::nullopt;
    const auto* op = std::get_if<graph::Concat>(&rewriter_.node(*from).attrs);
    const auto last = static_cast<int64_t>(graph_.type(x).shape.rank()) - 1;
    const bool fits = op != nullptr && (op->axis == -1 || op->axis == last) &&
                      rewriter_.node(*from).inputs.size() == 2;
    return fits ? from : std::nullopt;
  }

  // The one quantization of x to 8 bits with one known scale.
  std::optional<size_t> quantize_of(ValueId x) {
    std::optional<size_t> found;
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) {
      if (rewriter_.is_removed(i)) continue;
      const Node& node = rewriter_.node(i);
      const auto* op = std::get_if<graph::Quantize>(&node.attrs);
      if (op == nullptr || Rewriter::operand(node, Role::kX) != x) continue;
      const bool fits = op->bits == 8 && !op->narrow && !op->dynamic &&
                        op->granularity == graph::Granularity::kPerTensor &&
                        node.inputs.size() == 2 && same_rate(x, node.outputs[0]);
      if (!fits || found) return std::nullopt;
      found = i;
    }
    return found;
  }

  // Whether all that a node reads is known at node `index`.
  [[nodiscard]] bool can_stand_at(const Node& node, size_t index) const {
    return std::ranges::all_of(node.inputs, [&](const graph::Operand& operand) {
      const auto from = rewriter_.producer(operand.value);
      return !from || *from < index;
    });
  }

  // The norm at `index` with the concat that makes its input and the quantization of that, as
  // given. It stands where the first of them stood, so that others may read the join before the
  // norm.
  bool fuse(size_t index, std::optional<size_t> concat, std::optional<size_t> quantize) {
    Node norm = rewriter_.node(index);
    auto& op = std::get<graph::GroupNorm>(norm.attrs);
    const ValueId x = Rewriter::operand(norm, Role::kX);
    if (concat) {
      std::erase_if(norm.inputs, [](const graph::Operand& o) { return o.role == Role::kX; });
      const auto& parts = rewriter_.node(*concat).inputs;
      norm.inputs.insert(norm.inputs.begin(), parts.begin(), parts.end());
    }
    ValueId joined = x;
    if (quantize) {
      const Node& node = rewriter_.node(*quantize);
      op.joined = std::get<graph::Quantize>(node.attrs).dtype;
      norm.inputs.push_back({Role::kXScale, Rewriter::operand(node, Role::kXScale)});
      joined = node.outputs[0];
    }
    op.joins = quantize || rewriter_.num_uses(x) > 1;
    const size_t first = std::min({index, concat.value_or(index), quantize.value_or(index)});
    if (!can_stand_at(norm, first) || !accepted_outputs(graph_, norm, has_kernel_)) return false;
    if (op.joins) norm.outputs.push_back(joined);
    for (const auto& node : {std::optional(index), concat, quantize}) {
      if (node && *node != first) rewriter_.remove(*node);
    }
    rewriter_.node(first) = std::move(norm);
    return true;
  }

  Graph& graph_;
  Rewriter rewriter_;
  const HasKernel& has_kernel_;
};

void run(Graph& graph, const HasKernel& has_kernel) { Joiner(graph, has_kernel).run(); }

}  // namespace

extern const Pass kPass_join_norm_input;
const Pass kPass_join_norm_input{"join_norm_input",
                                 "a group norm reads the parts of a concat and hands on their join",
                                 true, nullptr, run};

}  // namespace halftone::compile
