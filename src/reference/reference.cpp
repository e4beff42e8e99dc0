#include "reference/reference.h"

#include <unordered_map>

#include <fmt/format.h>

#include "halftone/error.h"

#include "reference/ops.h"

namespace halftone::reference {
namespace {

void run(const graph::NoOp& /*op*/, const Call& /*call*/) {
  throw Error(Errc::kInternal, "reference: a node without an op");
}

// Values alive during an evaluation. Inputs are borrowed, everything else is owned.
class Evaluation {
 public:
  Evaluation(const graph::Graph& graph, const std::map<std::string, Tensor>& inputs,
             const WeightSource& weights)
      : graph_(graph), inputs_(inputs), weights_(weights), uses_left_(graph.values().size(), 0) {
    for (const graph::Node& node : graph.nodes()) {
      for (const graph::Operand& operand : node.inputs) ++uses_left_[operand.value];
    }
    for (const graph::GraphOutput& output : graph.outputs()) ++uses_left_[output.value];
  }

  void run_node(const graph::Node& node) {
    std::vector<TensorView> in, out;
    for (const graph::Operand& operand : node.inputs) in.push_back(view(operand.value));
    for (const graph::ValueId id : node.outputs) {
      out.push_back(owned_.insert_or_assign(id, Tensor(graph_.type(id))).first->second.view());
    }
    const auto typed_in = graph_.typed_inputs(node);
    const auto typed_out = graph_.typed_outputs(node);
    try {
      run_op({node.attrs, typed_in, typed_out}, in, out);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {}", node.name, error.what()));
    }
    for (const graph::Operand& operand : node.inputs) release(operand.value);
    for (const graph::ValueId id : node.outputs) {
      if (uses_left_[id] == 0) owned_.erase(id);
    }
  }

  Tensor take_output(graph::ValueId id) {
    Tensor result(graph_.type(id));
    const TensorView source = view(id);
    convert(source.data, source.type.dtype, result.data(), source.type.dtype,
            to_size(source.type.shape.num_elements()));
    release(id);
    return result;
  }

 private:
  TensorView view(graph::ValueId id) {
    const graph::Value& value = graph_.value(id);
    if (value.is_input) return input(value);
    const auto found = owned_.find(id);
    if (found != owned_.end()) return found->second.view();
    check_internal(value.constant.has_value(), "reference: a value is used before it is defined");
    if (value.constant->literal != nullptr) return value.constant->literal->view();
    Tensor weight(value.type);
    weights_.read(value.constant->weight, value.type, weight.data());
    return owned_.insert_or_assign(id, std::move(weight)).first->second.view();
  }

  [[nodiscard]] TensorView input(const graph::Value& value) const {
    const auto found = inputs_.find(value.name);
    if (found == inputs_.end()) {
      throw Error(Errc::kInvalidArgument, fmt::format("graph input '{}' is missing", value.name));
    }
    if (found->second.type() != value.type) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("graph input '{}': got {}, wanted {}", value.name,
                              to_string(found->second.type()), to_string(value.type)));
    }
    return found->second.view();
  }

  void release(graph::ValueId id) {
    if (--uses_left_[id] == 0) owned_.erase(id);
  }

  const graph::Graph& graph_;
  const std::map<std::string, Tensor>& inputs_;
  const WeightSource& weights_;
  std::vector<size_t> uses_left_;
  std::unordered_map<graph::ValueId, Tensor> owned_;
};

}  // namespace

void run_op(const graph::OpDesc& desc, std::span<const TensorView> inputs,
            std::span<const TensorView> outputs) {
  const Call call{desc, inputs, outputs};
  std::visit([&](const auto& op) { run(op, call); }, desc.attrs);
}

std::vector<Tensor> evaluate_op(
    const graph::OpAttrs& attrs,
    const std::vector<std::pair<graph::Role, const Tensor*>>& operands) {
  std::vector<graph::TypedOperand> in, out;
  std::vector<TensorView> in_views, out_views;
  for (const auto& [role, tensor] : operands) {
    in.push_back({role, tensor->type()});
    in_views.push_back(tensor->view());
  }
  std::vector<Tensor> results;
  out = infer_outputs(attrs, in);
  for (const graph::TypedOperand& output : out) results.emplace_back(output.type);
  for (const Tensor& result : results) out_views.push_back(result.view());
  run_op({attrs, in, out}, in_views, out_views);
  return results;
}

std::map<std::string, Tensor> evaluate(const graph::Graph& graph,
                                       const std::map<std::string, Tensor>& inputs,
                                       const WeightSource& weights) {
  Evaluation evaluation(graph, inputs, weights);
  for (const graph::Node& node : graph.nodes()) evaluation.run_node(node);
  std::map<std::string, Tensor> outputs;
  for (const graph::GraphOutput& output : graph.outputs()) {
    outputs.insert_or_assign(output.name, evaluation.take_output(output.value));
  }
  return outputs;
}

}  // namespace halftone::reference
