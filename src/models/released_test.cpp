// The released models, from their own configs: parameter counts, and every weight read by one node.
#include <map>

#include <gtest/gtest.h>

#include "io/released_configs.h"
#include "models/registry.h"

namespace halftone::models {
namespace {

using graph::Rate;

// The graph of a released model's component, in bf16.
graph::Graph build_released(std::string_view family, std::string_view component,
                            const BuildShape& shape) {
  const std::string_view document = component.starts_with("vae") ? "vae" : component;
  const Json config = io::released_config(family, document).value();
  const Logger no_warnings = [](LogLevel, std::string_view, std::string_view text) {
    ADD_FAILURE() << text;
  };
  return build(component, class_name_of(config), JsonView(config, std::string(document)), shape,
               {.compute_dtype = DType::kBF16}, no_warnings);
}

// Elements of all checkpoint tensors; expects that each is read by exactly one node.
int64_t count_parameters(const graph::Graph& graph) {
  std::vector<int> num_reads(graph.values().size(), 0);
  for (const graph::Node& node : graph.nodes()) {
    for (const graph::Operand& operand : node.inputs) ++num_reads[operand.value];
  }
  std::map<std::string, int> num_declared;
  int64_t total = 0;
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const graph::Value& value = graph.values()[i];
    if (!value.constant || value.constant->weight.empty()) continue;
    EXPECT_EQ(++num_declared[value.constant->weight], 1) << value.name;
    EXPECT_EQ(num_reads[i], 1) << value.name;
    total += value.type.shape.num_elements();
  }
  return total;
}

TEST(Released, SdxlUNet) {
  const BuildShape shape{.batch = 1, .height = 128, .width = 128, .cfg = true};
  EXPECT_EQ(count_parameters(build_released("sdxl", "unet", shape)), 2'567'463'684);
  EXPECT_EQ(count_parameters(build_released("sdxl-turbo", "unet", shape)), 2'567'463'684);
}

TEST(Released, Sd15UNet) {
  const BuildShape shape{.batch = 1, .height = 64, .width = 64, .cfg = true};
  EXPECT_EQ(count_parameters(build_released("sd15", "unet", shape)), 859'520'964);
}

TEST(Released, Vae) {
  const BuildShape shape{.batch = 1, .height = 64, .width = 64};
  for (const std::string_view family : {"sdxl", "sd15"}) {
    EXPECT_EQ(count_parameters(build_released(family, "vae_decoder", shape)), 49'490'199);
    EXPECT_EQ(count_parameters(build_released(family, "vae_encoder", shape)), 34'163'664);
  }
}

TEST(Released, TextEncoders) {
  EXPECT_EQ(count_parameters(build_released("sdxl", "text_encoder", {})), 123'060'480);
  EXPECT_EQ(count_parameters(build_released("sd15", "text_encoder", {})), 123'060'480);
  EXPECT_EQ(count_parameters(build_released("sdxl", "text_encoder_2", {})), 694'659'840);
}

// 70 transformer blocks, each with a cross-attention whose keys and values wait for the prompt
// only; the embedding of the time is the schedule's.
TEST(Released, SdxlUNetSplitsByRate) {
  const BuildShape shape{.batch = 2, .height = 64, .width = 96, .cfg = true};
  const graph::Graph graph = build_released("sdxl", "unet", shape);
  std::map<Rate, int> num_linears;
  int num_cross_kv = 0;
  int num_time_projections = 0;
  for (const graph::Node& node : graph.nodes()) {
    if (graph::kind_of(node.attrs) != graph::OpKind::kLinear) continue;
    const Rate rate = graph.value(node.outputs.front()).rate;
    ++num_linears[rate];
    if (node.name.ends_with("attn2.to_k") || node.name.ends_with("attn2.to_v")) {
      EXPECT_EQ(rate, Rate::kPrompt) << node.name;
      ++num_cross_kv;
    } else if (node.name.ends_with("time_emb_proj") || node.name.starts_with("time_embedding")) {
      EXPECT_EQ(rate, Rate::kSchedule) << node.name;
      ++num_time_projections;
    } else if (node.name.starts_with("add_embedding")) {
      EXPECT_EQ(rate, Rate::kPrompt) << node.name;
    } else {
      EXPECT_EQ(rate, Rate::kStep) << node.name;
    }
  }
  EXPECT_EQ(num_cross_kv, 140);
  EXPECT_EQ(num_time_projections, 2 + 17);  // the MLP, and one for each resnet
  EXPECT_EQ(num_linears[Rate::kPrompt], 140 + 2);
  EXPECT_EQ(num_linears[Rate::kLoad], 0);
}

// The convolution weights are turned to [out, kh, kw, in] once, while loading.
TEST(Released, ConvolutionWeightsTurnWhileLoading) {
  const graph::Graph graph = build_released("sdxl", "vae_decoder", {.height = 8, .width = 8});
  for (const graph::Node& node : graph.nodes()) {
    if (graph::kind_of(node.attrs) == graph::OpKind::kTranspose) {
      EXPECT_EQ(graph.value(node.outputs.front()).rate, Rate::kLoad) << node.name;
    }
  }
}

TEST(Released, NodeNamesAreUnique) {
  const BuildShape shape{.height = 32, .width = 32, .cfg = true};
  for (const std::string_view family : {"sdxl", "sd15"}) {
    const graph::Graph graph = build_released(family, "unet", shape);
    std::map<std::string, int> uses;
    for (const graph::Node& node : graph.nodes()) EXPECT_EQ(++uses[node.name], 1) << node.name;
  }
}

// Sizes that do not halve evenly come back as they went in.
TEST(Released, OddLatentSizes) {
  const graph::Graph graph = build_released("sd15", "unet", {.height = 45, .width = 31});
  for (const graph::GraphOutput& output : graph.outputs()) {
    if (output.name == "model_output") {
      EXPECT_EQ(to_string(graph.type(output.value)), "f32[1,45,31,4]");
    }
  }
}

// Norm parameters stay f32, everything else that the checkpoint holds takes the compute type; the
// graph's inputs and outputs do not.
TEST(Released, ComputeType) {
  const graph::Graph graph =
      build_released("sdxl", "unet", {.height = 32, .width = 32, .cfg = true});
  for (const graph::Node& node : graph.nodes()) {
    for (const graph::Operand& operand : node.inputs) {
      const DType dtype = graph.type(operand.value).dtype;
      if (operand.role == graph::Role::kGamma || operand.role == graph::Role::kBeta) {
        EXPECT_EQ(dtype, DType::kF32) << node.name;
      } else if (operand.role == graph::Role::kWeight || operand.role == graph::Role::kBias) {
        EXPECT_EQ(dtype, DType::kBF16) << node.name;
      }
    }
  }
  for (const graph::GraphOutput& output : graph.outputs()) {
    EXPECT_EQ(graph.type(output.value).dtype, DType::kF32);
  }
}

}  // namespace
}  // namespace halftone::models
