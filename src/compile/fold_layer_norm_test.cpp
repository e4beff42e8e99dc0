// Layer norms folded into the 16-bit linears around them: where that happens in the networks, and
// that a folded graph is as near to the one in f32 as a graph with its norms.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "compile/compile.h"
#include "io/checkpoint.h"
#include "models/registry.h"
#include "reference/reference.h"

namespace halftone::compile {
namespace {

using Tensors = std::map<std::string, Tensor>;

bool is_16_bit(DType dtype) { return dtype == DType::kF16 || dtype == DType::kBF16; }

// A device whose kernels know both halves of a norm, in 16 bits.
bool folds(const graph::OpDesc& desc) { return is_16_bit(desc.output().dtype); }

struct Component {
  std::string_view name;
  std::string_view folder;
  std::string_view component;
  size_t norms_left;  // of what no linear writes, or something else reads
};

void PrintTo(const Component& c, std::ostream* out) { *out << c.name; }

class FoldedModel : public testing::TestWithParam<Component> {
 protected:
  void SetUp() override {
    const std::string folder(GetParam().folder);
    checkpoint_ = io::Checkpoint::open(fmt::format("{}/{}", HALFTONE_SOURCE_DIR, folder), {});
  }

  [[nodiscard]] graph::Graph build(DType dtype) const {
    const std::string component(GetParam().component);
    const JsonView config = checkpoint_->config(component);
    models::BuildOptions options;
    options.compute_dtype = dtype;
    return models::build(component, models::class_name_of(config.value()), config,
                         {.batch = 1, .height = 8, .width = 8, .text_tokens = 9, .cfg = true},
                         options);
  }

  static graph::Graph compiled(graph::Graph graph, std::set<std::string> disabled) {
    CompileOptions options;
    options.disabled_passes = std::move(disabled);
    options.has_kernel = folds;
    run_passes(graph, options);
    return graph;
  }

  [[nodiscard]] Tensors evaluate(const graph::Graph& graph) const {
    Tensors inputs;
    NoiseGenerator noise = NoiseGenerator::torch_cpu(11);
    for (const graph::Value& value : graph.values()) {
      if (!value.is_input) continue;
      Tensor& input = inputs[value.name] = Tensor(value.type);
      if (value.type.dtype == DType::kI32) {
        std::ranges::fill(input.values<int32_t>(), 5);  // tokens, and where the text ends
        continue;
      }
      Tensor filled({DType::kF32, value.type.shape});
      noise.randn(filled.values<float>());
      input = filled.to(value.type.dtype);
    }
    return reference::evaluate(graph, inputs, *checkpoint_);
  }

  std::shared_ptr<const io::Checkpoint> checkpoint_;
};

size_t count(const graph::Graph& graph, std::string_view op) {
  return static_cast<size_t>(std::ranges::count_if(
      graph.nodes(), [&](const graph::Node& node) { return name_of(node.attrs) == op; }));
}

// Root mean square of the difference over all outputs.
double difference(const Tensors& got, const Tensors& wanted) {
  double sum = 0.0;
  size_t n = 0;
  for (const auto& [name, tensor] : wanted) {
    const Tensor a = tensor.to(DType::kF32);
    const Tensor b = got.at(name).to(DType::kF32);
    for (size_t i = 0; i < a.values<float>().size(); ++i) {
      sum += std::pow(static_cast<double>(a.values<float>()[i] - b.values<float>()[i]), 2.0);
      ++n;
    }
  }
  return std::sqrt(sum / static_cast<double>(n));
}

TEST_P(FoldedModel, IsAsExactAsWithItsNorms) {
  const Tensors exact = evaluate(build(DType::kF32));
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const graph::Graph folded = compiled(build(dtype), {});
    EXPECT_EQ(count(folded, "layer_norm"), GetParam().norms_left);
    EXPECT_GT(count(folded, "norm_weight"), 0U);
    const double with_norms =
        difference(evaluate(compiled(build(dtype), {"fold_layer_norm"})), exact);
    const double without = difference(evaluate(folded), exact);
    EXPECT_GT(without, 0.0);
    EXPECT_LE(without, 1.25 * with_norms) << to_string(dtype);
  }
}

TEST_P(FoldedModel, KeepsItsNormsInOtherTypes) {
  const graph::Graph kept = compiled(build(DType::kF32), {});
  EXPECT_EQ(count(kept, "norm_weight"), 0U);
  EXPECT_EQ(count(kept, "layer_norm"), count(build(DType::kF32), "layer_norm"));
}

INSTANTIATE_TEST_SUITE_P(
    Passes, FoldedModel,
    testing::Values(Component{"SdxlUnet", "tests/golden/tiny-sdxl", "unet", 0},
                    // Its projections before the blocks are convolutions.
                    Component{"Sd15Unet", "tests/golden/tiny-sd15", "unet", 4},
                    Component{"EmojiUnet", "models/emoji-xl", "unet", 0},
                    // The first norm reads a sum of embeddings, the last one's rows are picked.
                    Component{"SdxlTextEncoder", "tests/golden/tiny-sdxl", "text_encoder", 2},
                    Component{"SdxlTextEncoder2", "tests/golden/tiny-sdxl", "text_encoder_2", 2}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace halftone::compile
