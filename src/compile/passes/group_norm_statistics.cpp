// A group norm reads the statistics of its input from the linear or convolution that makes it
// (graph/ops/group_norm.h), where the device has kernels for both sides: it reads the input once.
// Only of large images: statistics of few pixels cost their maker about what the norm saves.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Graph;
using graph::Node;
using graph::Role;
using graph::ValueId;

// Of an image: 256 x 256. On an H200 a VAE decoder at 1024 gained 2 % from there on, a UNet of
// 128 x 128 and less nothing (docs/performance.md).
constexpr int64_t kLeastPixels = 65536;

// The groups whose statistics a linear or convolution makes; null for other ops.
int64_t* statistics_groups(Node& node) {
  if (auto* conv = std::get_if<graph::Conv2d>(&node.attrs)) return &conv->statistics_groups;
  if (auto* linear = std::get_if<graph::Linear>(&node.attrs)) return &linear->statistics_groups;
  return nullptr;
}

class Statistician {
 public:
  Statistician(Graph& graph, const HasKernel& has_kernel)
      : graph_(graph), rewriter_(graph), has_kernel_(has_kernel) {}

  void run() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) measure_input(i);
    rewriter_.commit();
  }

 private:
  void measure_input(size_t index) {
    Node norm = rewriter_.node(index);
    const auto* op = std::get_if<graph::GroupNorm>(&norm.attrs);
    if (op == nullptr || Rewriter::operand(norm, Role::kGroupStatistics) != graph::kNoValue) return;
    const auto writer = writer_of(Rewriter::operand(norm, Role::kX));
    if (!writer) return;
    Node measured = rewriter_.node(*writer);
    int64_t& groups = *statistics_groups(measured);
    ValueId statistics = graph::kNoValue;
    if (groups == op->groups) {  // for another norm of it
      statistics = measured.outputs[1];
    } else {
      if (measured.outputs.size() != 1) return;
      groups = op->groups;
      const auto outputs = accepted_outputs(graph_, measured, has_kernel_);
      if (!outputs) return;
      statistics = graph_.new_value(measured.name + ".group_statistics", (*outputs)[1].type,
                                    graph_.value(measured.outputs[0]).rate);
      measured.outputs.push_back(statistics);
    }
    norm.inputs.push_back({Role::kGroupStatistics, statistics});
    if (!accepted_outputs(graph_, norm, has_kernel_)) return;
    rewriter_.node(*writer) = std::move(measured);
    rewriter_.node(index) = std::move(norm);
  }

  // What writes the images, perhaps as rows of tokens.
  std::optional<size_t> writer_of(ValueId x) {
    const Shape images = graph_.type(x).shape;
    auto from = rewriter_.producer(x);
    while (from && std::holds_alternative<graph::Reshape>(rewriter_.node(*from).attrs)) {
      from = rewriter_.producer(Rewriter::operand(rewriter_.node(*from), Role::kX));
    }
    if (!from || statistics_groups(rewriter_.node(*from)) == nullptr) return std::nullopt;
    if (images.num_rows() < kLeastPixels * images[0]) return std::nullopt;
    const Shape& written = graph_.type(rewriter_.node(*from).outputs[0]).shape;
    const bool same = written.rank() >= 2 && images.rank() >= 2 && written[0] == images[0] &&
                      written[-1] == images[-1];
    return same ? from : std::nullopt;
  }

  Graph& graph_;
  Rewriter rewriter_;
  const HasKernel& has_kernel_;
};

void run(Graph& graph, const HasKernel& has_kernel) { Statistician(graph, has_kernel).run(); }

}  // namespace

extern const Pass kPass_group_norm_statistics;
const Pass kPass_group_norm_statistics{
    "group_norm_statistics", "what makes a group norm's input measures it", false, nullptr, run};

}  // namespace halftone::compile
