// Edits of a graph by the quantizer: new nodes are appended, operands exchanged, and the order
// restored at the end.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace halftone::quant {

class Editor {
 public:
  explicit Editor(graph::Graph& graph);

  graph::Graph& graph() { return graph_; }
  [[nodiscard]] const graph::Graph& graph() const { return graph_; }
  // As it was when editing began, or the new node that makes the value; null for inputs, constants.
  [[nodiscard]] const graph::Node* producer(graph::ValueId value) const;
  // Index of that node, or kNone.
  [[nodiscard]] size_t producer_index(graph::ValueId value) const;
  [[nodiscard]] size_t num_uses(graph::ValueId value) const;
  static constexpr size_t kNone = static_cast<size_t>(-1);

  graph::ValueId add(graph::OpAttrs attrs, std::vector<graph::Operand> inputs, std::string name);
  // Second output of the node that made `first`.
  [[nodiscard]] graph::ValueId second_output(graph::ValueId first) const;
  graph::ValueId literal(std::string name, const std::vector<float>& values);
  graph::ValueId literal(std::string name, int32_t value);
  // The operand of a role, with edits; kNoValue when absent.
  [[nodiscard]] graph::ValueId operand(size_t node, graph::Role role) const;
  void set_operand(size_t node, graph::Role role, graph::ValueId value);

  void set_attrs(size_t node, graph::OpAttrs attrs);

  // Puts every node right before its first user, originals in their order, and verifies.
  void commit();

 private:
  graph::Graph& graph_;
  std::vector<size_t> producer_, uses_;
  std::map<size_t, std::map<graph::Role, graph::ValueId>> edits_;
  std::map<size_t, graph::OpAttrs> new_attrs_;
};

[[nodiscard]] graph::ValueId operand_of(const graph::Node& node, graph::Role role);

}  // namespace halftone::quant
