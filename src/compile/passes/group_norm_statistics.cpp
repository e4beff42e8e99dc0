// A group norm reads the statistics of its input from the linear or convolution that makes it
// (graph/ops/group_norm.h), where the device has kernels for both sides: it reads the input once.
// Only of large images or many: what lies in a GPU's cache when the norm reads it twice costs the
// maker of statistics about what the norm saves.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Role;

// Of an image: 256 x 256. On an H200 a VAE decoder at 1024 gained 2 % from there on, a UNet of
// 128 x 128 and less nothing (docs/performance.md).
constexpr int64_t kLeastPixels = 65536;
// More than so many bytes of all images: what the second level cache of a GPU (50 MB of an H200)
// does not hold beside what else is read and written. On a CPU this was not measured.
constexpr size_t kMostCachedBytes = size_t{32} << 20;

// What writes the images, perhaps as rows of tokens.
std::optional<size_t> writer_of(const Rewriter& rewriter, graph::ValueId x) {
  const auto maker = product_behind(rewriter, x);
  if (!maker) return std::nullopt;
  const graph::Graph& graph = rewriter.graph();
  const TensorType& type = graph.type(x);
  const Shape& images = type.shape;
  const bool is_large =
      images.num_rows() >= kLeastPixels * images[0] || type.num_bytes() > kMostCachedBytes;
  if (!is_large) return std::nullopt;
  const Shape& written = graph.type(rewriter.node(*maker).outputs[0]).shape;
  const bool same = written.rank() >= 2 && images.rank() >= 2 && written[0] == images[0] &&
                    written[-1] == images[-1];
  return same ? maker : std::nullopt;
}

void measure_input(Rewriter& rewriter, size_t index, const HasKernel& has_kernel) {
  const graph::Node& norm = rewriter.node(index);
  const auto* op = std::get_if<graph::GroupNorm>(&norm.attrs);
  if (op == nullptr || Rewriter::operand(norm, Role::kGroupStatistics) != graph::kNoValue) return;
  const auto writer = writer_of(rewriter, Rewriter::operand(norm, Role::kX));
  if (!writer) return;
  graph::OpAttrs measured = rewriter.node(*writer).attrs;
  if (auto* conv = std::get_if<graph::Conv2d>(&measured)) conv->statistics_groups = op->groups;
  if (auto* linear = std::get_if<graph::Linear>(&measured)) linear->statistics_groups = op->groups;
  read_description(rewriter, index, Role::kGroupStatistics, *writer, measured, ".group_statistics",
                   has_kernel);
}

void run(graph::Graph& graph, const HasKernel& has_kernel) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) measure_input(rewriter, i, has_kernel);
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_group_norm_statistics;
const Pass kPass_group_norm_statistics{
    "group_norm_statistics", "what makes a group norm's input measures it", false, nullptr, run};

}  // namespace halftone::compile
