// Scalar definition of every op: plain loops, double accumulation, one rounding at the end. The
// oracle of all kernels and the last kernel of every list.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace halftone::reference {

// Runs one op on host memory. Views are in operand order; any may be pitched. Rounded once per
// output element to the output's dtype. Throws kInvalidArgument for an index out of range.
void run_op(const graph::OpDesc& desc, std::span<const TensorView> inputs,
            std::span<const TensorView> outputs);

// The same on whole tensors; returns the outputs.
[[nodiscard]] std::vector<Tensor> evaluate_op(
    const graph::OpAttrs& attrs,
    const std::vector<std::pair<graph::Role, const Tensor*>>& operands);

// Evaluates a whole graph. `inputs` by graph input name (types must equal); weights are read from
// `weights`. Returns the graph outputs by name.
[[nodiscard]] std::map<std::string, Tensor> evaluate(const graph::Graph& graph,
                                                     const std::map<std::string, Tensor>& inputs,
                                                     const WeightSource& weights);

}  // namespace halftone::reference
