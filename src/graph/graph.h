// The graph: typed values joined by nodes, in execution order. Built by models/, rewritten by
// compile/, evaluated by reference/.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/ops/ops.h"

namespace halftone::graph {

using ValueId = uint32_t;
inline constexpr ValueId kNoValue = 0xffffffffU;

// Where the bytes of a constant come from: a tensor of the checkpoint by WeightSource name, or a
// literal kept in the graph (small tables).
struct ConstantSource {
  std::string weight;                     // empty for a literal
  std::shared_ptr<const Tensor> literal;  // null for a weight
};

struct Value {
  std::string name;  // inputs: public name; others: "<node>" or the weight's name
  TensorType type;
  Rate rate = Rate::kLoad;
  bool is_input = false;
  std::optional<ConstantSource> constant;
};

struct Operand {
  Role role;
  ValueId value;
  bool operator==(const Operand&) const = default;
};

struct Node {
  OpAttrs attrs;
  std::vector<Operand> inputs;
  std::vector<ValueId> outputs;
  std::string name;  // module path in the checkpoint, e.g. "down_blocks.0.resnets.0.conv1"
};

struct GraphOutput {
  std::string name;
  ValueId value;
};

// Not thread-safe. Value ids stay valid; nodes are kept in an order in which operands precede
// users.
class Graph {
 public:
  ValueId add_input(std::string name, TensorType type, Rate rate);
  // A checkpoint tensor in its stored shape, converted to type.dtype when read.
  ValueId add_weight(std::string source_name, TensorType type);
  ValueId add_literal(std::string name, Tensor tensor);
  // Appends a node; output types and rates are inferred. Returns the first output (the others are
  // in nodes().back().outputs). Throws kInvalidArgument naming the node.
  ValueId add_node(OpAttrs attrs, std::vector<Operand> inputs, std::string name);
  void add_output(std::string name, ValueId value);

  [[nodiscard]] const std::vector<Value>& values() const { return values_; }
  [[nodiscard]] const Value& value(ValueId id) const { return values_[id]; }
  [[nodiscard]] const TensorType& type(ValueId id) const { return values_[id].type; }
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  [[nodiscard]] const std::vector<GraphOutput>& outputs() const { return outputs_; }
  [[nodiscard]] std::vector<TypedOperand> typed_inputs(const Node& node) const;
  // With roles as output_role() says.
  [[nodiscard]] std::vector<TypedOperand> typed_outputs(const Node& node) const;

  // Replaces the node list (same value ids) after a rewrite; callers run verify() afterwards.
  void set_nodes(std::vector<Node> nodes) { nodes_ = std::move(nodes); }
  void set_outputs(std::vector<GraphOutput> outputs) { outputs_ = std::move(outputs); }
  // A fresh value for nodes made by a pass.
  ValueId new_value(std::string name, TensorType type, Rate rate);

 private:
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<GraphOutput> outputs_;
};

// Checks ids, order, single assignment, inferred types and rates; throws kInternal with the node's
// name.
void verify(const Graph& graph);
// One line a value or node; parse(print(g)) prints the same text. Literals print their bytes as
// hex.
[[nodiscard]] std::string print(const Graph& graph);
// Throws kCorruptFile with the line number.
[[nodiscard]] Graph parse(std::string_view text);

}  // namespace halftone::graph
