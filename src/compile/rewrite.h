// What rewriting passes need: who makes a value, how often it is used, and one commit at the end.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "compile/compile.h"
#include "graph/graph.h"

namespace halftone::compile {

// A view of the graph for one pass. Nodes are edited in place; removed nodes and replaced values
// take effect in commit().
class Rewriter {
 public:
  explicit Rewriter(graph::Graph& graph);

  [[nodiscard]] size_t num_nodes() const { return nodes_.size(); }
  [[nodiscard]] bool is_removed(size_t node) const { return removed_[node]; }
  graph::Node& node(size_t index) { return nodes_[index]; }
  [[nodiscard]] const graph::Node& node(size_t index) const { return nodes_[index]; }
  [[nodiscard]] const graph::Graph& graph() const { return graph_; }
  graph::Graph& graph() { return graph_; }

  // Index of the live node that writes the value, or nothing for inputs and constants.
  [[nodiscard]] std::optional<size_t> producer(graph::ValueId value) const;
  // Reads by nodes plus graph outputs.
  [[nodiscard]] size_t num_uses(graph::ValueId value) const { return uses_[value]; }

  // Operand of a role, or kNoValue.
  [[nodiscard]] static graph::ValueId operand(const graph::Node& node, graph::Role role);

  // Removes node `index`; its former inputs lose a use.
  void remove(size_t index);
  // Node `into` takes over `from`: becomes `fused`, `from` is removed. `into` must come after
  // `from`.
  void fuse(size_t from, size_t into, graph::Node fused);
  // Every later read of `old_value` (and graph outputs) becomes `new_value`.
  void replace(graph::ValueId old_value, graph::ValueId new_value);
  // Puts new nodes right before node `index` when committing.
  void insert_before(size_t index, std::vector<graph::Node> nodes);

  // Rewrites the graph: applies replacements, drops removed nodes, inserts new ones.
  void commit();

 private:
  void count(const graph::Node& node, bool add);
  graph::ValueId resolve(graph::ValueId value) const;

  graph::Graph& graph_;
  std::vector<graph::Node> nodes_;
  std::vector<bool> removed_;
  std::vector<size_t> uses_;
  std::vector<size_t> producer_;
  std::vector<graph::ValueId> replaced_by_;
  std::vector<std::vector<graph::Node>> inserted_;
};

// Outputs of a node as its attributes and inputs are now; nothing unless they fit and the device
// has a kernel for it.
[[nodiscard]] std::optional<std::vector<graph::TypedOperand>> accepted_outputs(
    const graph::Graph& graph, const graph::Node& node, const HasKernel& has_kernel);

// The linear or convolution that makes x, perhaps reshaped since; nothing where another op does.
[[nodiscard]] std::optional<size_t> product_behind(const Rewriter& rewriter, graph::ValueId x);

// Node `reader` reads, as operand `role`, what node `maker` tells of its result as a second output.
// `describing`: the maker's attributes with the one that asks for that. The maker is asked once
// for all readers. Only where the device has kernels for both nodes, else nothing is changed.
// `suffix`: of the output's name.
void read_description(Rewriter& rewriter, size_t reader, graph::Role role, size_t maker,
                      const graph::OpAttrs& describing, std::string_view suffix,
                      const HasKernel& has_kernel);

// Removes every node whose results nobody reads.
void drop_dead_nodes(graph::Graph& graph);

}  // namespace halftone::compile
