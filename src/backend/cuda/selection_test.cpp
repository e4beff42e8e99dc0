// Which kernel each architecture takes for the ops of a network; needs no GPU.
#include <gtest/gtest.h>

#include "backend/cuda/kernels.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

DeviceInfo device(std::string arch) {
  DeviceInfo info;
  info.name = "cuda:0";
  info.num_units = 132;
  info.features = {"cuda", "cublaslt", "cudnn", "cudnn_attention"};
  if (arch == "sm_90") info.features.emplace_back("sm_90a");
  info.arch = std::move(arch);
  return info;
}

struct Op {
  graph::OpAttrs attrs;
  std::vector<graph::TypedOperand> in;
};

// The kernel of the highest priority that takes the op.
std::string chosen(const Op& op, const DeviceInfo& info) {
  const std::vector<graph::TypedOperand> out = infer_outputs(op.attrs, op.in);
  const graph::OpDesc desc{op.attrs, op.in, out};
  for (const Kernel* kernel : all_kernels()) {
    if (kernel->op == kind_of(op.attrs) && supports(*kernel, desc, info).ok) {
      return std::string(kernel->name);
    }
  }
  return "none";
}

Op linear(DType dtype, int64_t rows = 2048) {
  Op op{graph::Linear{},
        {{Role::kX, {dtype, {rows, 1280}}}, {Role::kWeight, {dtype, {1280, 1280}}}}};
  if (size_of(dtype) == 1) {
    std::get<graph::Linear>(op.attrs).out = DType::kF16;
    op.in.push_back({Role::kXScale, {DType::kF32, {rows}}});
    op.in.push_back({Role::kWScale, {DType::kF32, {1280}}});
  }
  return op;
}

// x in 16 bits, a weight of 4-bit codes.
Op weight_only_linear() {
  return {graph::Linear{},
          {{Role::kX, {DType::kF16, {77, 2048}}},
           {Role::kWeight, {DType::kU8, {1280, 1024}}},
           {Role::kWScale, {DType::kF32, {1280}}}}};
}

// The same of 8 bits, as merge_text_kv makes them of the keys and values of many layers.
Op text_linear(DType x, DType weight, int64_t rows) {
  return {graph::Linear{},
          {{Role::kX, {x, {rows, 2048}}},
           {Role::kWeight, {weight, {35840, 2048}}},
           {Role::kWScale, {DType::kF32, {35840}}}}};
}

Op conv(DType dtype, int64_t size = 32) {
  Op op{graph::Conv2d{.stride = 1, .pad_begin = 1, .pad_end = 1},
        {{Role::kX, {dtype, {2, size, size, 1280}}}, {Role::kWeight, {dtype, {1280, 3, 3, 1280}}}}};
  if (size_of(dtype) == 1) {
    std::get<graph::Conv2d>(op.attrs).out = DType::kF16;
    op.in.push_back({Role::kXScale, {DType::kF32, {1}}});
    op.in.push_back({Role::kWScale, {DType::kF32, {1280}}});
  }
  return op;
}

Op attention(int64_t keys = 1024, bool causal = false) {
  const TensorType x{DType::kF16, {2, causal ? keys : 1024, 1280}};
  const TensorType kv{DType::kF16, {2, keys, 1280}};
  return {graph::Attention{20, 0.125, causal}, {{Role::kQ, x}, {Role::kK, kv}, {Role::kV, kv}}};
}

// One that computes its queries, from x of `dtype`.
Op projected_attention(DType dtype, int64_t keys = 77) {
  const TensorType kv{DType::kF16, {2, keys, 1280}};
  Op op{graph::Attention{20, 0.125},
        {{Role::kX, {dtype, {2, 1024, 1280}}},
         {Role::kWeight, {dtype, {1280, 1280}}},
         {Role::kK, kv},
         {Role::kV, kv}}};
  if (size_of(dtype) == 1) {
    op.in.push_back({Role::kXScale, {DType::kF32, {2048}}});
    op.in.push_back({Role::kWScale, {DType::kF32, {1280}}});
  }
  return op;
}

// q and k of `dtype`, all parts in 8 bits.
Op codes_attention(DType dtype, int64_t heads = 20) {
  const TensorType x{dtype, {2, 1024, 1280}};
  const TensorType parts{DType::kF32, {int64_t{2} * 1024 * heads}};
  return {graph::Attention{heads, 0.125, false, DType::kF8E4M3, DType::kF16},
          {{Role::kQ, x},
           {Role::kK, x},
           {Role::kV, {DType::kF8E4M3, x.shape}},
           {Role::kQScale, parts},
           {Role::kKScale, parts},
           {Role::kVScale, {DType::kF32, {1}}}}};
}

// The same with a result in codes.
Op to_codes(Op op, DType dtype) {
  std::get<graph::Attention>(op.attrs).out = dtype;
  op.in.push_back({Role::kYScale, {DType::kF32, {1}}});
  return op;
}

TEST(Selection, EveryArchitectureHasItsKernels) {
  struct Row {
    const char* arch;
    Op op;
    const char* kernel;
  };
  std::vector<Row> rows;
  for (const char* arch : {"sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}) {
    const bool hopper = std::string(arch) == "sm_90";
    const bool f8 = std::string(arch) != "sm_80" && std::string(arch) != "sm_86";
    rows.push_back({arch, linear(DType::kF16),
                    hopper ? "cuda.linear.hopper_or_cublaslt" : "cuda.linear.cublaslt"});
    rows.push_back({arch, weight_only_linear(), "cuda.linear.weight_only.mma_or_cublaslt"});
    for (const DType x : {DType::kF16, DType::kBF16}) {
      for (const DType weight : {DType::kI8, DType::kF8E4M3}) {
        for (const int64_t few : {77, 154, 161}) {
          rows.push_back({arch, text_linear(x, weight, few),
                          hopper && few <= 160 ? "cuda.linear.weight_only.few_tokens_or_mma"
                                               : "cuda.linear.weight_only.mma_or_cublaslt"});
        }
      }
    }
    rows.push_back({arch, conv(DType::kF16), hopper ? "cuda.conv2d.hopper" : "cuda.conv2d.cudnn"});
    rows.push_back(
        {arch, attention(), hopper ? "cuda.attention.hopper_or_cudnn" : "cuda.attention.cudnn"});
    rows.push_back(
        {arch, attention(77), hopper ? "cuda.attention.few_keys.hopper" : "cuda.attention.cudnn"});
    rows.push_back({arch, attention(77, true),
                    hopper ? "cuda.attention.few_keys.hopper" : "cuda.attention.short.plain"});
    for (const DType dtype : {DType::kF16, DType::kI8, DType::kF8E4M3}) {
      const char* projects = hopper ? "cuda.attention.project.hopper" : "none";
      rows.push_back({arch, projected_attention(dtype), projects});
      rows.push_back({arch, to_codes(projected_attention(dtype), DType::kI8), projects});
      rows.push_back({arch, projected_attention(dtype, 81), "none"});
    }
    for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
      rows.push_back({arch, codes_attention(dtype),
                      hopper ? "cuda.attention.codes.hopper" : "cuda.attention.codes.plain"});
      rows.push_back({arch, codes_attention(dtype, 8), "cuda.attention.codes.plain"});
      rows.push_back(
          {arch, to_codes(attention(), dtype),
           hopper ? "cuda.attention.to_codes.hopper_or_cudnn" : "cuda.attention.to_codes.cudnn"});
      rows.push_back({arch, to_codes(attention(77), dtype),
                      hopper ? "cuda.attention.few_keys.hopper" : "cuda.attention.to_codes.cudnn"});
      rows.push_back({arch, to_codes(attention(77, true), dtype),
                      hopper ? "cuda.attention.few_keys.hopper" : "none"});
      rows.push_back({arch, to_codes(codes_attention(dtype), dtype),
                      hopper ? "cuda.attention.codes.hopper" : "none"});
    }
    rows.push_back({arch, linear(DType::kI8),
                    hopper ? "cuda.linear.hopper" : "cuda.linear.codes.mma_or_cublaslt"});
    rows.push_back({arch, linear(DType::kF8E4M3),
                    hopper ? "cuda.linear.hopper"
                    : f8   ? "cuda.linear.codes.mma_or_cublaslt"
                           : "cuda.linear.quantized.plain"});
    rows.push_back(
        {arch, conv(DType::kI8), hopper ? "cuda.conv2d.hopper" : "cuda.conv2d.codes_mma.plain"});
    rows.push_back({arch, conv(DType::kF8E4M3),
                    hopper ? "cuda.conv2d.hopper"
                    : f8   ? "cuda.conv2d.codes_mma.plain"
                           : "cuda.conv2d.quantized.plain"});
    rows.push_back({arch, conv(DType::kF16, 16),
                    hopper ? "cuda.conv2d.hopper_or_cudnn" : "cuda.conv2d.cudnn"});
    rows.push_back({arch, conv(DType::kI8, 16),
                    hopper ? "cuda.conv2d.hopper" : "cuda.conv2d.codes_mma.plain"});
    // Few rows; a number that the library does not take.
    rows.push_back({arch, linear(DType::kI8, 77),
                    hopper ? "cuda.linear.hopper" : "cuda.linear.codes_mma.plain"});
    rows.push_back({arch, linear(DType::kF16, 77),
                    hopper ? "cuda.linear.hopper_or_cublaslt" : "cuda.linear.cublaslt"});
  }
  for (const Row& row : rows) {
    EXPECT_EQ(chosen(row.op, device(row.arch)), row.kernel)
        << row.arch << " " << print_attrs(row.op.attrs) << " " << to_string(row.op.in.front().type);
  }
}

TEST(Selection, SmallGroupNormsMayBeOneLaunch) {
  const auto norm = [](int64_t size) {
    return Op{graph::GroupNorm{32, 1e-5, graph::Activation::kSilu},
              {{Role::kX, {DType::kF16, {2, size, size, 320}}},
               {Role::kGamma, {DType::kF32, {320}}},
               {Role::kBeta, {DType::kF32, {320}}}}};
  };
  EXPECT_EQ(chosen(norm(128), device("sm_90")), "cuda.group_norm.hopper_or_plain");
  EXPECT_EQ(chosen(norm(256), device("sm_90")), "cuda.group_norm.plain");
  EXPECT_EQ(chosen(norm(128), device("sm_100")), "cuda.group_norm.plain");
}

// Parts of x and what is handed on have kernels everywhere; codes with a scale for each row, or
// found in the norm, are a pass of their own.
TEST(Selection, GroupNormsJoinPartsAndKnowTheirScale) {
  const auto norm = [](const graph::GroupNorm& op, std::vector<graph::TypedOperand> more) {
    Op result{op, {{Role::kX, {DType::kF16, {2, 32, 32, 640}}}}};
    const bool parts = !more.empty() && more.front().role == Role::kX;
    const int64_t channels = parts ? 640 + more.front().type.shape[-1] : 640;
    result.in.push_back({Role::kGamma, {DType::kF32, {channels}}});
    result.in.push_back({Role::kBeta, {DType::kF32, {channels}}});
    result.in.insert(result.in.end(), more.begin(), more.end());
    return result;
  };
  const graph::TypedOperand part{Role::kX, {DType::kF16, {2, 32, 32, 320}}};
  const graph::TypedOperand y_scale{Role::kYScale, {DType::kF32, {1}}};
  const graph::TypedOperand x_scale{Role::kXScale, {DType::kF32, {1}}};
  graph::GroupNorm op{32, 1e-5, graph::Activation::kSilu};
  op.joins = true;
  const auto takes = [&](const Op& of, bool taken) {
    EXPECT_EQ(chosen(of, device("sm_90")), taken ? "cuda.group_norm.hopper_or_plain" : "none");
    EXPECT_EQ(chosen(of, device("sm_80")), taken ? "cuda.group_norm.plain" : "none");
  };
  takes(norm(op, {part}), true);
  op.out = op.joined = DType::kI8;
  takes(norm(op, {part, y_scale, x_scale}), true);
  op.joined = DType::kF8E4M3;
  takes(norm(op, {part, y_scale, x_scale}), false);
  op.joins = false;
  op.joined = DType::kF32;
  takes(norm(op, {y_scale}), true);
  op.granularity = graph::Granularity::kPerToken;
  takes(norm(op, {{Role::kYScale, {DType::kF32, {2048}}}}), false);
  op.dynamic = true;
  takes(norm(op, {}), false);
}

// The statistics of a result come from a Hopper kernel's epilogue; elsewhere the norm takes them.
TEST(Selection, ResultsAreMeasuredOnHopperOnly) {
  const auto measured = [](Op op, int64_t groups) {
    if (auto* conv = std::get_if<graph::Conv2d>(&op.attrs)) conv->statistics_groups = groups;
    if (auto* linear = std::get_if<graph::Linear>(&op.attrs)) {
      linear->statistics_groups = groups;
      op.in.front().type.shape = {2, 1024, 1280};
    }
    return op;
  };
  for (const DType dtype : {DType::kF16, DType::kI8}) {
    EXPECT_EQ(chosen(measured(conv(dtype), 32), device("sm_90")), "cuda.conv2d.hopper");
    EXPECT_EQ(chosen(measured(conv(dtype), 32), device("sm_100")), "none");
    // Groups of 640 columns: more than a tile has.
    EXPECT_EQ(chosen(measured(conv(dtype), 2), device("sm_90")), "none");
    EXPECT_EQ(chosen(measured(linear(dtype), 32), device("sm_100")), "none");
  }
  EXPECT_EQ(chosen(measured(linear(DType::kF16), 32), device("sm_90")),
            "cuda.linear.hopper_or_cublaslt");
  EXPECT_EQ(chosen(measured(linear(DType::kI8), 32), device("sm_90")), "cuda.linear.hopper");
}

// Amax comes from linears of codes with one scale; whoever reads it has one kernel everywhere.
TEST(Selection, AmaxOnHopperOnly) {
  const auto measured = [](Op op, bool row_scales) {
    if (auto* conv = std::get_if<graph::Conv2d>(&op.attrs)) conv->amax = true;
    if (auto* linear = std::get_if<graph::Linear>(&op.attrs)) {
      linear->amax = true;
      for (graph::TypedOperand& operand : op.in) {
        const int64_t rows = op.in.front().type.shape.num_rows();
        if (operand.role == Role::kXScale) operand.type.shape = {row_scales ? rows : 1};
      }
    }
    return op;
  };
  for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
    EXPECT_EQ(chosen(measured(linear(dtype), false), device("sm_90")), "cuda.linear.hopper");
    EXPECT_EQ(chosen(measured(linear(dtype), true), device("sm_90")), "none");
    EXPECT_EQ(chosen(measured(linear(dtype), false), device("sm_89")), "none");
    EXPECT_EQ(chosen(measured(conv(dtype), false), device("sm_90")), "none");
    const Op quantize{
        graph::Quantize{dtype, 8, graph::Granularity::kPerTensor, true, false},
        {{Role::kX, {DType::kF16, {2048, 5120}}}, {Role::kAmax, graph::amax_type({2048, 5120})}}};
    EXPECT_EQ(chosen(quantize, device("sm_90")), "cuda.quantize.plain");
  }
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    EXPECT_EQ(chosen(measured(linear(dtype), false), device("sm_90")), "none");
  }
}

// Networks in bf16 (FLUX's range) lose nothing by it.
TEST(Selection, CodesToBf16OnTheFamilyToo) {
  for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
    Op product = linear(dtype);
    std::get<graph::Linear>(product.attrs).out = DType::kBF16;
    EXPECT_EQ(chosen(product, device("sm_90")), "cuda.linear.hopper");
    std::get<graph::Linear>(product.attrs).activation = graph::Activation::kGeluTanh;
    EXPECT_EQ(chosen(product, device("sm_90")), "cuda.linear.hopper");
    std::get<graph::Linear>(product.attrs).activation = graph::Activation::kNone;
    std::get<graph::Linear>(product.attrs).geglu = true;
    EXPECT_EQ(chosen(product, device("sm_90")), "cuda.linear.hopper");
    std::get<graph::Linear>(product.attrs).amax = true;
    product.in[2].type.shape = {1};
    EXPECT_EQ(chosen(product, device("sm_90")), "cuda.linear.hopper");
    for (const int64_t size : {16, 128}) {
      Op image = conv(dtype, size);
      std::get<graph::Conv2d>(image.attrs).out = DType::kBF16;
      EXPECT_EQ(chosen(image, device("sm_90")), "cuda.conv2d.hopper");
    }
  }
}

// A feed-forward without a gate ends in what the next linear reads.
TEST(Selection, ActivatedToCodesOnTheFamily) {
  for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
    Op product = linear(dtype);
    auto& op = std::get<graph::Linear>(product.attrs);
    op.activation = graph::Activation::kGeluTanh;
    op.out = dtype;
    product.in.push_back({Role::kYScale, {DType::kF32, {1}}});
    EXPECT_EQ(chosen(product, device("sm_90")), "cuda.linear.hopper");
  }
}

// Both halves of a layer norm between linears; without them the norm stays a kernel of its own.
TEST(Selection, RowStatisticsOnHopperOnly) {
  const auto describing = [](Op op) {
    std::get<graph::Linear>(op.attrs).row_statistics = true;
    return op;
  };
  const auto normalizing = [](Op op) {
    std::get<graph::Linear>(op.attrs).eps = 1e-5;
    op.in.push_back({Role::kRowStatistics, graph::row_statistics_type(op.in.front().type.shape)});
    op.in.push_back({Role::kColumnSum, {DType::kF32, {1280}}});
    return op;
  };
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    for (const Op& op : {describing(linear(dtype, 1024)), normalizing(linear(dtype, 1024))}) {
      const bool wide = dtype == DType::kF32;
      EXPECT_EQ(chosen(op, device("sm_90")), wide ? "none" : "cuda.linear.hopper_or_cublaslt");
      for (const char* arch : {"sm_80", "sm_89", "sm_100"}) {
        EXPECT_EQ(chosen(op, device(arch)), "none") << arch;
      }
    }
  }
  // Where a norm of its own is faster: a text's, a large picture's.
  for (const int64_t rows : {154, 2048}) {
    EXPECT_EQ(chosen(describing(linear(DType::kF16, rows)), device("sm_90")), "none");
    EXPECT_EQ(chosen(normalizing(linear(DType::kF16, rows)), device("sm_90")), "none");
  }
}

TEST(Selection, WithoutLibrariesPlainKernelsServe) {
  DeviceInfo info = device("sm_80");
  info.features = {"cuda"};
  EXPECT_EQ(chosen(linear(DType::kF16), info), "cuda.linear.plain");
  EXPECT_EQ(chosen(conv(DType::kF16), info), "cuda.conv2d.plain");
  EXPECT_EQ(chosen(linear(DType::kI8), info), "cuda.linear.codes_mma.plain");
  EXPECT_EQ(chosen(weight_only_linear(), info), "cuda.linear.weight_only_mma.plain");
  EXPECT_NE(chosen(attention(), info), "none");
  EXPECT_EQ(chosen(to_codes(attention(), DType::kI8), info), "none");
  info.features.emplace_back("sm_90a");
  EXPECT_EQ(chosen(to_codes(attention(), DType::kI8), info), "cuda.attention.hopper");
  EXPECT_EQ(chosen(linear(DType::kF16), info), "cuda.linear.hopper");
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    EXPECT_EQ(chosen(linear(dtype, 77), info), "cuda.linear.few_tokens.hopper");
    EXPECT_EQ(chosen(linear(dtype, 160), info), "cuda.linear.few_tokens.hopper");
    EXPECT_EQ(chosen(linear(dtype, 161), info), "cuda.linear.plain");
  }
  EXPECT_EQ(chosen(linear(DType::kF32, 77), info), "cuda.linear.plain");
  EXPECT_EQ(chosen(weight_only_linear(), info), "cuda.linear.weight_only_mma.plain");
  EXPECT_EQ(chosen(text_linear(DType::kF16, DType::kI8, 77), info),
            "cuda.linear.weight_only.few_tokens_or_mma");
  // The text's keys and values of all layers: more outputs than one tile a block makes.
  Op wide = linear(DType::kF16, 77);
  wide.in[1].type.shape = {35840, 1280};
  EXPECT_NE(chosen(wide, info), "cuda.linear.few_tokens.hopper");
}

}  // namespace
}  // namespace halftone::backend::cuda
