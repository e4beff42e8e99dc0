// Passes keep what a graph computes: each alone, the whole list, and the list with one of them
// switched off, evaluated on the reference before and after.
#include <algorithm>
#include <cmath>
#include <cstring>

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

CompileOptions without(std::set<std::string> passes) {
  return {.disabled_passes = std::move(passes), .disabled_kernels = {}, .logger = {}};
}

CompileOptions only(std::string_view name) {
  std::set<std::string> others;
  for (const Pass& pass : passes()) {
    if (pass.name != name) others.emplace(pass.name);
  }
  return without(std::move(others));
}

bool is_exact(const CompileOptions& options) {
  return std::ranges::all_of(passes(), [&](const Pass& pass) {
    return pass.exact || options.disabled_passes.contains(std::string(pass.name));
  });
}

// Small whole numbers: products and sums of them are exact in f32, in any order.
class WholeNumbers final : public WeightSource {
 public:
  [[nodiscard]] bool contains(const std::string& /*name*/) const override { return true; }
  [[nodiscard]] TensorType type(const std::string& name) const override {
    throw Error(Errc::kNotFound, name);
  }
  void read(const std::string& name, const TensorType& type, std::byte* dst) const override {
    const Tensor whole = make(name, type);
    std::memcpy(dst, whole.data(), type.num_bytes());
  }
  // In [-4, 4]; indices in [0, 4].
  static Tensor make(const std::string& name, const TensorType& type) {
    size_t state = std::hash<std::string>{}(name);
    const auto next = [&state] {
      state = state * 6364136223846793005U + 1442695040888963407U;
      return static_cast<int>((state >> 33U) % 9U) - 4;
    };
    Tensor tensor(type);
    if (type.dtype == DType::kI32) {
      for (int32_t& v : tensor.values<int32_t>()) v = std::abs(next());
      return tensor;
    }
    for (float& v : tensor.values<float>()) v = static_cast<float>(next());
    return tensor;
  }
};

// Of an image to a text, whose keys and values are made once per prompt.
constexpr const char* kCrossAttention =
    R"(input %0 "x" f32[2,3,8] step
input %1 "c" f32[2,5,6] prompt
weight %2 "q" f32[8,8]
weight %3 "k" f32[8,6]
weight %4 "v" f32[8,6]
node "a.q" linear{activation=none geglu=false} x=%0 weight=%2 -> %5 f32[2,3,8] step
node "a.k" linear{activation=none geglu=false} x=%1 weight=%3 -> %6 f32[2,5,8] prompt
node "a.v" linear{activation=none geglu=false} x=%1 weight=%4 -> %7 f32[2,5,8] prompt
node "a" attention{heads=2 scale=0.125 causal=false} q=%5 k=%6 v=%7 -> %8 f32[2,3,8] step
output "y" %8
)";

// Of an image with itself, q, k and v through codes of one scale.
constexpr const char* kCodedAttention = R"(input %0 "x" f32[2,3,8] step
weight %1 "q" f32[8,8]
weight %2 "k" f32[8,8]
weight %3 "v" f32[8,8]
weight %4 "qb" f32[8]
weight %5 "kb" f32[8]
weight %6 "vb" f32[8]
literal %7 "s" f32[1] 0000803e
literal %8 "another" f32[1] 0000003f
node "a.q" linear{activation=none geglu=false} x=%0 weight=%1 bias=%4 -> %10 f32[2,3,8] step
node "a.qc" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%10 x_scale=%7 -> %13 f8e4m3[2,3,8] step
node "a.qv" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%13 x_scale=%7 -> %16 f32[2,3,8] step
node "a.k" linear{activation=none geglu=false} x=%0 weight=%2 bias=%5 -> %11 f32[2,3,8] step
node "a.kc" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%11 x_scale=%7 -> %14 f8e4m3[2,3,8] step
node "a.kv" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%14 x_scale=%7 -> %17 f32[2,3,8] step
node "a.v" linear{activation=none geglu=false} x=%0 weight=%3 bias=%6 -> %12 f32[2,3,8] step
node "a.vc" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%12 x_scale=%7 -> %15 f8e4m3[2,3,8] step
node "a.vv" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%15 x_scale=%7 -> %18 f32[2,3,8] step
node "a" attention{heads=2 scale=0.125 causal=false probabilities=f8e4m3} q=%16 k=%17 v=%18 -> %9 f32[2,3,8] step
output "y" %9
)";

// That with each `from` replaced by the `to` behind it.
std::string coded_attention(
    std::initializer_list<std::pair<std::string_view, std::string_view>> edits) {
  std::string text = kCodedAttention;
  for (const auto& [from, to] : edits) {
    for (size_t at = text.find(from); at != std::string::npos;
         at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  }
  return text;
}

Tensors inputs_of(const graph::Graph& graph) {
  Tensors inputs;
  for (const graph::Value& value : graph.values()) {
    if (value.is_input) inputs[value.name] = WholeNumbers::make(value.name, value.type);
  }
  return inputs;
}

// max |got - wanted| / max |wanted| over all floating outputs.
double largest_error(const Tensors& got, const Tensors& wanted) {
  EXPECT_EQ(got.size(), wanted.size());
  double worst = 0.0;
  for (const auto& [name, tensor] : wanted) {
    const Tensor& other = got.at(name);
    EXPECT_EQ(other.type(), tensor.type()) << name;
    if (tensor.type().dtype == DType::kU8) {  // bytes of a picture: one off where it rounds
      for (size_t i = 0; i < tensor.values<uint8_t>().size(); ++i) {
        EXPECT_NEAR(other.values<uint8_t>()[i], tensor.values<uint8_t>()[i], 1) << name;
      }
      continue;
    }
    double difference = 0.0;
    double largest = 0.0;
    for (size_t i = 0; i < tensor.values<float>().size(); ++i) {
      const double w = static_cast<double>(tensor.values<float>()[i]);
      EXPECT_TRUE(std::isfinite(w)) << name;
      difference =
          std::max(difference, std::abs(static_cast<double>(other.values<float>()[i]) - w));
      largest = std::max(largest, std::abs(w));
    }
    worst = std::max(worst, largest == 0.0 ? difference : difference / largest);
  }
  return worst;
}

bool bit_equal(const Tensors& got, const Tensors& wanted) {
  return std::ranges::all_of(wanted, [&](const auto& entry) {
    const Tensor& other = got.at(entry.first);
    return other.type() == entry.second.type() &&
           std::memcmp(other.data(), entry.second.data(), other.type().num_bytes()) == 0;
  });
}

struct TextCase {
  std::string_view name;
  std::string_view pass;
  size_t nodes;   // after the pass alone
  bool is_whole;  // no value but whole numbers occurs: equal in every bit, whatever is fused
  std::string text;
};

void PrintTo(const TextCase& c, std::ostream* out) { *out << c.name; }

std::vector<TextCase> text_cases() {
  return {
      {"Reshapes", "simplify", 1, true, R"(input %0 "x" f32[2,12] step
node "a" reshape{shape=2,3,4} x=%0 -> %1 f32[2,3,4] step
node "b" reshape{shape=6,4} x=%1 -> %2 f32[6,4] step
output "y" %2
)"},
      {"Transposes", "simplify", 1, true, R"(input %0 "x" f32[2,3,4,5] step
node "a" transpose{perm=0,2,3,1} x=%0 -> %1 f32[2,4,5,3] step
node "b" transpose{perm=0,3,1,2} x=%1 -> %2 f32[2,3,4,5] step
node "c" transpose{perm=1,0,2,3} x=%2 -> %3 f32[3,2,4,5] step
node "d" transpose{perm=3,2,1,0} x=%3 -> %4 f32[5,4,2,3] step
output "y" %4
)"},
      {"Casts", "simplify", 1, true, R"(input %0 "x" f32[2,4] step
node "a" cast{dtype=f32} x=%0 -> %1 f32[2,4] step
node "b" add{broadcast_batch=false} x=%1 x=%0 -> %2 f32[2,4] step
output "y" %2
)"},
      {"EqualNodes", "merge_equal", 2, true, R"(input %0 "x" f32[2,4] step
weight %1 "w" f32[4,4]
weight %2 "w" f32[4,4]
node "a" linear{activation=none geglu=false} x=%0 weight=%1 -> %3 f32[2,4] step
node "b" linear{activation=none geglu=false} x=%0 weight=%2 -> %4 f32[2,4] step
node "c" add{broadcast_batch=false} x=%3 x=%4 -> %5 f32[2,4] step
output "y" %5
)"},
      {"NormAndActivation", "fuse_norm_activation", 1, false, R"(input %0 "x" f32[2,3,3,8] step
weight %1 "g" f32[8]
weight %2 "b" f32[8]
node "n" group_norm{groups=4 eps=1e-05 activation=none} x=%0 gamma=%1 beta=%2 -> %3 f32[2,3,3,8] step
node "a" unary{activation=silu} x=%3 -> %4 f32[2,3,3,8] step
output "y" %4
)"},
      {"NormReadTwice", "fuse_norm_activation", 3, false, R"(input %0 "x" f32[2,3,3,8] step
weight %1 "g" f32[8]
weight %2 "b" f32[8]
node "n" group_norm{groups=4 eps=1e-05 activation=none} x=%0 gamma=%1 beta=%2 -> %3 f32[2,3,3,8] step
node "a" unary{activation=silu} x=%3 -> %4 f32[2,3,3,8] step
node "s" add{broadcast_batch=false} x=%3 x=%4 -> %5 f32[2,3,3,8] step
output "y" %5
)"},
      {"ConvRowAddResidual", "fuse_epilogue", 1, true, R"(input %0 "x" f32[2,4,4,8] step
input %1 "t" f32[2,8] schedule
weight %2 "w" f32[8,3,3,8]
weight %3 "b" f32[8]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%2 bias=%3 -> %4 f32[2,4,4,8] step
node "temb" add{broadcast_batch=false} x=%4 x=%1 -> %5 f32[2,4,4,8] step
node "sum" add{broadcast_batch=false} x=%0 x=%5 -> %6 f32[2,4,4,8] step
output "y" %6
)"},
      {"LinearActivationResidual", "fuse_epilogue", 1, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "w" f32[8,8]
node "fc" linear{activation=none geglu=false} x=%0 weight=%1 -> %2 f32[2,3,8] step
node "act" unary{activation=gelu} x=%2 -> %3 f32[2,3,8] step
node "sum" add{broadcast_batch=false} x=%3 x=%0 -> %4 f32[2,3,8] step
output "y" %4
)"},
      {"Geglu", "fuse_epilogue", 2, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "w" f32[12,8]
weight %2 "v" f32[8,6]
node "up" linear{activation=none geglu=false} x=%0 weight=%1 -> %3 f32[2,3,12] step
node "gate" geglu{} x=%3 -> %4 f32[2,3,6] step
node "down" linear{activation=none geglu=false} x=%4 weight=%2 -> %5 f32[2,3,8] step
node "sum" add{broadcast_batch=false} x=%5 x=%0 -> %6 f32[2,3,8] step
output "y" %6
)"},
      // The residual comes after the activation, so an activation of a sum stays a node.
      {"ActivationOfASum", "fuse_epilogue", 2, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "w" f32[8,8]
node "fc" linear{activation=none geglu=false} x=%0 weight=%1 -> %2 f32[2,3,8] step
node "sum" add{broadcast_batch=false} x=%2 x=%0 -> %3 f32[2,3,8] step
node "act" unary{activation=silu} x=%3 -> %4 f32[2,3,8] step
output "y" %4
)"},
      // What is computed once per prompt must not move into the step.
      {"OtherRate", "fuse_epilogue", 2, true, R"(input %0 "x" f32[2,3,8] step
input %1 "c" f32[2,3,8] prompt
weight %2 "w" f32[8,8]
node "fc" linear{activation=none geglu=false} x=%1 weight=%2 -> %3 f32[2,3,8] prompt
node "sum" add{broadcast_batch=false} x=%3 x=%0 -> %4 f32[2,3,8] step
output "y" %4
)"},
      // Three linears and an attention: two concats, one linear, three slices, the attention.
      {"SelfAttention", "merge_qkv", 7, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "q" f32[8,8]
weight %2 "k" f32[8,8]
weight %3 "v" f32[8,8]
weight %4 "qb" f32[8]
weight %5 "kb" f32[8]
weight %6 "vb" f32[8]
node "a.q" linear{activation=none geglu=false} x=%0 weight=%1 bias=%4 -> %7 f32[2,3,8] step
node "a.k" linear{activation=none geglu=false} x=%0 weight=%2 bias=%5 -> %8 f32[2,3,8] step
node "a.v" linear{activation=none geglu=false} x=%0 weight=%3 bias=%6 -> %9 f32[2,3,8] step
node "a" attention{heads=2 scale=0.125 causal=false} q=%7 k=%8 v=%9 -> %10 f32[2,3,8] step
output "y" %10
)"},
      // Two concats, one linear and its codes, three slices of them and their values, the
      // attention.
      {"CodedSelfAttention", "merge_qkv", 11, false, coded_attention({})},
      // Keys and values share the scale, or none do.
      {"CodedQueriesOfAnotherScale", "merge_qkv", 12, false,
       coded_attention(
           {{"x_scale=%7 -> %13", "x_scale=%8 -> %13"}, {"x=%13 x_scale=%7", "x=%13 x_scale=%8"}})},
      {"CodedKeysOfAnotherScale", "merge_qkv", 10, false,
       coded_attention(
           {{"x_scale=%7 -> %14", "x_scale=%8 -> %14"}, {"x=%14 x_scale=%7", "x=%14 x_scale=%8"}})},
      // Scales that depend on the values, codes that something else reads, columns of their own.
      {"CodesOfDynamicScales", "merge_qkv", 10, false,
       coded_attention(
           {{"dynamic=false", "dynamic=true"},
            {"x_scale=%7 -> %13 f8e4m3[2,3,8] step", "-> %13 f8e4m3[2,3,8] step %19 f32[1] step"},
            {"x_scale=%7 -> %14 f8e4m3[2,3,8] step", "-> %14 f8e4m3[2,3,8] step %20 f32[1] step"},
            {"x_scale=%7 -> %15 f8e4m3[2,3,8] step", "-> %15 f8e4m3[2,3,8] step %21 f32[1] step"},
            {"x=%13 x_scale=%7", "x=%13 x_scale=%19"},
            {"x=%14 x_scale=%7", "x=%14 x_scale=%20"},
            {"x=%15 x_scale=%7", "x=%15 x_scale=%21"}})},
      {"CodesReadTwice", "merge_qkv", 11, false,
       coded_attention({{"node \"a\" ",
                         "node \"more\" dequantize{dtype=f32 bits=8 granularity=per_tensor} "
                         "x=%14 x_scale=%7 -> %19 f32[2,3,8] step\nnode \"a\" "},
                        {"output \"y\" %9", "output \"y\" %9\noutput \"k\" %19"}})},
      {"CodesOfScaledColumns", "merge_qkv", 10, false,
       coded_attention({{"x_scale=%7 -> %13", "gamma=%4 x_scale=%7 -> %13"},
                        {"x_scale=%7 -> %14", "gamma=%5 x_scale=%7 -> %14"},
                        {"x_scale=%7 -> %15", "gamma=%6 x_scale=%7 -> %15"}})},
      // Keys and values of the text only, once per prompt: concat, linear, two slices, q,
      // attention.
      {"CrossAttention", "merge_qkv", 6, false, kCrossAttention},
      // The linear of the queries and the attention; a text's keys and values stay.
      {"Queries", "project_queries", 3, false, kCrossAttention},
      {"QueriesOfCodes", "project_queries", 1, false, R"(input %0 "x" i8[2,3,8] step
input %1 "c" f32[2,5,8] prompt
input %2 "xs" f32[6] step
input %3 "w" i8[8,8] prompt
input %4 "ws" f32[8] prompt
node "a.q" linear{activation=none geglu=false} x=%0 weight=%3 x_scale=%2 w_scale=%4 -> %5 f32[2,3,8] step
node "a" attention{heads=2 scale=0.125 causal=false} q=%5 k=%1 v=%1 -> %6 f32[2,3,8] step
output "y" %6
)"},
      // Queries that something else reads, and such that more than products make.
      {"QueriesReadTwice", "project_queries", 2, false, R"(input %0 "x" f32[2,3,8] step
input %1 "c" f32[2,5,8] prompt
weight %2 "q" f32[8,8]
node "a.q" linear{activation=none geglu=false} x=%0 weight=%2 -> %3 f32[2,3,8] step
node "a" attention{heads=2 scale=0.125 causal=false} q=%3 k=%1 v=%1 -> %4 f32[2,3,8] step
output "y" %4
output "q" %3
)"},
      {"QueriesThatAreKeys", "project_queries", 2, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "q" f32[8,8]
node "a.q" linear{activation=none geglu=false} x=%0 weight=%1 -> %2 f32[2,3,8] step
node "a" attention{heads=2 scale=0.125 causal=false} q=%2 k=%2 v=%0 -> %3 f32[2,3,8] step
output "y" %3
)"},
      {"QueriesWithBias", "project_queries", 2, false, R"(input %0 "x" f32[2,3,8] step
input %1 "c" f32[2,5,8] prompt
weight %2 "q" f32[8,8]
weight %3 "b" f32[8]
node "a.q" linear{activation=none geglu=false} x=%0 weight=%2 bias=%3 -> %4 f32[2,3,8] step
node "a" attention{heads=2 scale=0.125 causal=false} q=%4 k=%1 v=%1 -> %5 f32[2,3,8] step
output "y" %5
)"},
      {"QueriesOfAnActivation", "project_queries", 2, false, R"(input %0 "x" f32[2,3,8] step
input %1 "c" f32[2,5,8] prompt
weight %2 "q" f32[8,8]
node "a.q" linear{activation=silu geglu=false} x=%0 weight=%2 -> %3 f32[2,3,8] step
node "a" attention{heads=2 scale=0.125 causal=false} q=%3 k=%1 v=%1 -> %4 f32[2,3,8] step
output "y" %4
)"},
      // What is computed once per prompt must not move into the step.
      {"QueriesOfThePrompt", "project_queries", 2, false, R"(input %0 "x" f32[2,3,8] prompt
input %1 "c" f32[2,5,8] step
weight %2 "q" f32[8,8]
node "a.q" linear{activation=none geglu=false} x=%0 weight=%2 -> %3 f32[2,3,8] prompt
node "a" attention{heads=2 scale=0.125 causal=false} q=%3 k=%1 v=%1 -> %4 f32[2,3,8] step
output "y" %4
)"},
      // Text keys and values of two layers: concat, linear, four slices, two q, two attentions.
      {"TextOfTwoLayers", "merge_text_kv", 10, false, R"(input %0 "x" f32[2,3,8] step
input %1 "c" f32[2,5,6] prompt
weight %2 "q" f32[8,8]
weight %3 "k" f32[8,6]
weight %4 "v" f32[8,6]
weight %5 "l" f32[8,6]
weight %6 "w" f32[8,6]
node "a.q" linear{activation=none geglu=false} x=%0 weight=%2 -> %7 f32[2,3,8] step
node "a.k" linear{activation=none geglu=false} x=%1 weight=%3 -> %8 f32[2,5,8] prompt
node "a.v" linear{activation=none geglu=false} x=%1 weight=%4 -> %9 f32[2,5,8] prompt
node "a" attention{heads=2 scale=0.125 causal=false} q=%7 k=%8 v=%9 -> %10 f32[2,3,8] step
node "b.q" linear{activation=none geglu=false} x=%10 weight=%2 -> %11 f32[2,3,8] step
node "b.k" linear{activation=none geglu=false} x=%1 weight=%5 -> %12 f32[2,5,8] prompt
node "b.v" linear{activation=none geglu=false} x=%1 weight=%6 -> %13 f32[2,5,8] prompt
node "b" attention{heads=2 scale=0.125 causal=false} q=%11 k=%12 v=%13 -> %14 f32[2,3,8] step
output "y" %14
)"},
      // One layer's are left to merge_qkv; keys of the picture itself are no text.
      {"TextOfOneLayer", "merge_text_kv", 4, false, kCrossAttention},
      // Sums of the weight, four biases, the convolution, the interleaving.
      {"Subpixel", "subpixel_upsample", 4, true, R"(input %0 "x" f32[2,3,4,8] step
weight %1 "w" f32[6,3,3,8]
weight %2 "b" f32[6]
node "up" upsample{out_h=6 out_w=8} x=%0 -> %3 f32[2,6,8,8] step
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%3 weight=%1 bias=%2 -> %4 f32[2,6,8,6] step
output "y" %4
)"},
      {"Interleaved", "store_interleaved", 1, true, R"(input %0 "x" f32[1,3,4,8] step
weight %1 "w" f32[12,2,2,8]
weight %2 "b" f32[12]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%1 bias=%2 -> %3 f32[1,4,5,12] step
node "merge" subpixel_merge{} x=%3 -> %4 f32[1,6,8,3] step
output "y" %4
)"},
      // What else reads the convolution, or is added to it, wants it as it is.
      {"InterleavedAndRead", "store_interleaved", 2, true, R"(input %0 "x" f32[1,3,4,8] step
weight %1 "w" f32[12,2,2,8]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%1 -> %2 f32[1,4,5,12] step
node "merge" subpixel_merge{} x=%2 -> %3 f32[1,6,8,3] step
output "y" %3
output "z" %2
)"},
      {"InterleavedSum", "store_interleaved", 2, true, R"(input %0 "x" f32[1,3,4,8] step
input %1 "r" f32[1,4,5,12] step
weight %2 "w" f32[12,2,2,8]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%2 residual=%1 -> %3 f32[1,4,5,12] step
node "merge" subpixel_merge{} x=%3 -> %4 f32[1,6,8,3] step
output "y" %4
)"},
      // Not twice the size, and an enlargement that is read twice.
      {"OtherUpsample", "subpixel_upsample", 2, true, R"(input %0 "x" f32[2,3,4,8] step
weight %1 "w" f32[6,3,3,8]
node "up" upsample{out_h=5 out_w=8} x=%0 -> %2 f32[2,5,8,8] step
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%2 weight=%1 -> %3 f32[2,5,8,6] step
output "y" %3
)"},
      {"UpsampleReadTwice", "subpixel_upsample", 2, true, R"(input %0 "x" f32[2,3,4,8] step
weight %1 "w" f32[6,3,3,8]
node "up" upsample{out_h=6 out_w=8} x=%0 -> %2 f32[2,6,8,8] step
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%2 weight=%1 -> %3 f32[2,6,8,6] step
output "y" %3
output "z" %2
)"},
      // The constants of the linear behind the norm, and the two linears; f32 rows of whole
      // numbers are normalised in another order of operations.
      {"NormBetweenLinears", "fold_layer_norm", 3, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "w" f32[100,8]
weight %2 "g" f32[100]
weight %3 "b" f32[100]
weight %4 "v" f32[8,100]
weight %5 "c" f32[4]
node "in" linear{activation=none geglu=false} x=%0 weight=%1 -> %6 f32[2,3,100] step
node "norm" layer_norm{eps=1e-05} x=%6 gamma=%2 beta=%3 -> %7 f32[2,3,100] step
node "out" linear{activation=none geglu=true} x=%7 weight=%4 -> %8 f32[2,3,4] step
output "y" %8
output "z" %6
)"},
      // Two readers, a reshape before the norm.
      {"NormReadByTwoLinears", "fold_layer_norm", 6, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "w" f32[12,8]
weight %2 "g" f32[12]
weight %3 "b" f32[12]
weight %4 "v" f32[4,12]
weight %5 "u" f32[6,12]
weight %9 "c" f32[6]
node "in" linear{activation=none geglu=false} x=%0 weight=%1 -> %6 f32[2,3,12] step
node "flat" reshape{shape=6,12} x=%6 -> %10 f32[6,12] step
node "norm" layer_norm{eps=1e-05} x=%10 gamma=%2 beta=%3 -> %7 f32[6,12] step
node "a" linear{activation=silu geglu=false} x=%7 weight=%4 -> %8 f32[6,4] step
node "b" linear{activation=none geglu=false} x=%7 weight=%5 bias=%9 -> %11 f32[6,6] step
output "y" %8
output "z" %11
)"},
      // What is no linear wants the norm; so does a norm of what no linear writes.
      {"NormReadByAnother", "fold_layer_norm", 5, false, R"(input %0 "x" f32[2,3,8] step
weight %1 "w" f32[8,8]
weight %2 "g" f32[8]
weight %3 "b" f32[8]
node "first" layer_norm{eps=1e-05} x=%0 gamma=%2 beta=%3 -> %4 f32[2,3,8] step
node "in" linear{activation=none geglu=false} x=%4 weight=%1 -> %5 f32[2,3,8] step
node "norm" layer_norm{eps=1e-05} x=%5 gamma=%2 beta=%3 -> %6 f32[2,3,8] step
node "out" linear{activation=none geglu=false} x=%6 weight=%1 -> %7 f32[2,3,8] step
node "sum" add{broadcast_batch=false} x=%6 x=%7 -> %8 f32[2,3,8] step
output "y" %8
)"},
      // The norm with both parts of its input, and a sum that wants their join.
      {"JoinedParts", "join_norm_input", 2, false, R"(input %0 "x" f32[2,3,4,6] step
input %1 "s" f32[2,3,4,2] step
weight %2 "g" f32[8]
node "cat" concat{axis=-1} x=%0 x=%1 -> %3 f32[2,3,4,8] step
node "norm" group_norm{groups=2 eps=1e-05 activation=silu} x=%3 gamma=%2 beta=%2 -> %4 f32[2,3,4,8] step
node "sum" add{broadcast_batch=false} x=%3 x=%4 -> %5 f32[2,3,4,8] step
output "y" %5
)"},
      // Parts of a large image, whose products could measure one of them.
      {"JoinedProducts", "join_norm_input", 3, false, R"(input %0 "x" f32[1,256,256,4] step
weight %1 "w" f32[4,1,1,4]
weight %2 "g" f32[8]
node "a" conv2d{stride=1 pad_begin=0 pad_end=0 activation=none} x=%0 weight=%1 -> %3 f32[1,256,256,4] step
node "b" conv2d{stride=1 pad_begin=0 pad_end=0 activation=none} x=%3 weight=%1 -> %4 f32[1,256,256,4] step
node "cat" concat{axis=-1} x=%3 x=%4 -> %5 f32[1,256,256,8] step
node "norm" group_norm{groups=4 eps=1e-05 activation=none} x=%5 gamma=%2 beta=%2 -> %6 f32[1,256,256,8] step
output "y" %6
)"},
      // Amax of the linear; the quantization stays and reads it.
      {"AmaxOfALinear", "epilogue_amax", 3, true, R"(input %0 "x" f32[2,3,8] step
weight %1 "w" f32[8,8]
node "fc" linear{activation=none geglu=false} x=%0 weight=%1 -> %2 f32[2,3,8] step
node "q" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%2 -> %3 i8[2,3,8] step %4 f32[1] step
node "dq" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%3 x_scale=%4 -> %5 f32[2,3,8] step
output "y" %5
)"},
      {"Literals", "fold_constants", 1, true, R"(input %0 "x" f32[1,4] step
literal %1 "a" f32[1,2] 0000803f00000040
literal %2 "b" f32[1,2] 0000404000008040
node "c" concat{axis=-1} x=%1 x=%2 -> %3 f32[1,4] load
node "d" add{broadcast_batch=false} x=%3 x=%3 -> %4 f32[1,4] load
node "e" add{broadcast_batch=false} x=%0 x=%4 -> %5 f32[1,4] step
output "y" %5
)"},
      {"Unread", "remove_dead", 1, true, R"(input %0 "x" f32[2,4] step
weight %1 "w" f32[4,4]
node "a" linear{activation=none geglu=false} x=%0 weight=%1 -> %2 f32[2,4] step
node "b" unary{activation=silu} x=%2 -> %3 f32[2,4] step
node "c" add{broadcast_batch=false} x=%0 x=%0 -> %4 f32[2,4] step
output "y" %4
)"}};
}

class TextGraph : public testing::TestWithParam<TextCase> {};

// Fusing spares at most three roundings of values about as large as the largest result, each of
// half a spacing: 4 spacings bound that with what the activation makes of it.
constexpr double kFusedBound = 4.0 * 0x1p-23;

TEST_P(TextGraph, KeepsItsMeaning) {
  const TextCase& c = GetParam();
  const Tensors inputs = inputs_of(graph::parse(c.text));
  const Tensors wanted = reference::evaluate(graph::parse(c.text), inputs, WholeNumbers());
  for (const bool alone : {true, false}) {
    graph::Graph graph = graph::parse(c.text);
    const CompileOptions options = alone ? only(c.pass) : without({});
    run_passes(graph, options);
    if (alone) {
      EXPECT_EQ(graph.nodes().size(), c.nodes) << print(graph);
    }
    const Tensors got = reference::evaluate(graph, inputs, WholeNumbers());
    if (c.is_whole || is_exact(options)) {
      EXPECT_TRUE(bit_equal(got, wanted)) << print(graph);
    }
    EXPECT_LE(largest_error(got, wanted), kFusedBound) << print(graph);
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, TextGraph, testing::ValuesIn(text_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

struct Component {
  std::string_view name;
  std::string_view checkpoint;
  std::string_view component;
};

void PrintTo(const Component& c, std::ostream* out) { *out << c.name; }

class ModelGraph : public testing::TestWithParam<Component> {
 protected:
  void SetUp() override {
    const std::string component(GetParam().component);
    checkpoint_ = io::Checkpoint::open(
        fmt::format("{}/tests/golden/{}", HALFTONE_SOURCE_DIR, GetParam().checkpoint), {});
    const JsonView config = checkpoint_->config(component.starts_with("vae") ? "vae" : component);
    graph_ =
        models::build(component, models::class_name_of(config.value()), config,
                      {.batch = 1, .height = 8, .width = 16, .text_tokens = 9, .cfg = true}, {});
    NoiseGenerator noise = NoiseGenerator::torch_cpu(7);
    for (const graph::Value& value : graph_.values()) {
      if (!value.is_input) continue;
      Tensor& input = inputs_[value.name] = WholeNumbers::make(value.name, value.type);
      if (value.type.dtype == DType::kF32) noise.randn(input.values<float>());
    }
    wanted_ = reference::evaluate(graph_, inputs_, *checkpoint_);
  }

  void expect_equal(const CompileOptions& options) const {
    graph::Graph graph = graph_;
    run_passes(graph, options);
    const Tensors got = reference::evaluate(graph, inputs_, *checkpoint_);
    if (is_exact(options)) {
      EXPECT_TRUE(bit_equal(got, wanted_));
    }
    EXPECT_LE(largest_error(got, wanted_), bound());
  }

  // Every node may spare three roundings of 2^-24, which add up like random steps over the nodes;
  // 8 for how much larger than the result the values on the way are.
  [[nodiscard]] double bound() const {
    return 8.0 * std::sqrt(3.0 * static_cast<double>(graph_.nodes().size())) * 0x1p-24;
  }

  std::shared_ptr<const io::Checkpoint> checkpoint_;
  graph::Graph graph_;
  Tensors inputs_, wanted_;
};

TEST_P(ModelGraph, IsKeptByEachPassAlone) {
  for (const Pass& pass : passes()) {
    SCOPED_TRACE(pass.name);
    expect_equal(only(pass.name));
  }
}

TEST_P(ModelGraph, IsKeptWithEachPassSwitchedOff) {
  expect_equal(without({}));
  for (const Pass& pass : passes()) {
    SCOPED_TRACE(pass.name);
    expect_equal(without({std::string(pass.name)}));
  }
}

TEST_P(ModelGraph, IsDoneAfterOneRound) {
  graph::Graph graph = graph_;
  run_passes(graph, without({}));
  const std::string once = print(graph);
  run_passes(graph, without({}));
  EXPECT_EQ(print(graph), once);
}

INSTANTIATE_TEST_SUITE_P(Passes, ModelGraph,
                         testing::Values(Component{"SdxlUnet", "tiny-sdxl", "unet"},
                                         Component{"SdxlVaeDecoder", "tiny-sdxl", "vae_decoder"},
                                         Component{"SdxlVaeEncoder", "tiny-sdxl", "vae_encoder"},
                                         Component{"SdxlTextEncoder", "tiny-sdxl", "text_encoder"},
                                         Component{"SdxlTextEncoder2", "tiny-sdxl",
                                                   "text_encoder_2"},
                                         Component{"Sd15Unet", "tiny-sd15", "unet"},
                                         Component{"Sd15VaeDecoder", "tiny-sd15", "vae_decoder"},
                                         Component{"Sd15TextEncoder", "tiny-sd15", "text_encoder"}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace halftone::compile
