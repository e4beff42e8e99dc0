// Every kernel of the CPU's list, for several sets of processor features, against the reference on
// every case that it supports: guard zones around every buffer, outputs and workspace poisoned with
// NaN, each call run twice and compared bit for bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/kernels.h"
#include "case.h"
#include "guarded.h"
#include "reference/reference.h"

namespace halftone::conformance {
namespace {

using backend::Kernel;

// A processor to plan for. oneDNN keeps the limits of the first device of a process, so its
// narrower code runs where each test is a process of its own, as under ctest. `extra`: features
// claimed beyond what the processor has, where oneDNN emulates.
struct Processor {
  std::string name;
  std::vector<std::string> disabled, extra;
};

const std::vector<Processor>& processors() {
  static const std::vector<Processor> all{{"native", {}, {}},
                                          {"avx512", {"amx", "avx512_bf16"}, {}},
                                          {"bf16", {}, {"avx512_bf16"}},
                                          {"avx2", {"avx512"}, {}},
                                          {"none", {"avx2"}, {}}};
  return all;
}

Tensor make_tensor(const TensorType& type, Fill fill, std::mt19937_64& random) {
  const auto n = static_cast<size_t>(type.shape.num_elements());
  if (fill == Fill::kIndices) {
    Tensor t(type);
    for (int32_t& v : t.values<int32_t>()) v = static_cast<int32_t>(random() % 5);
    return t;
  }
  std::vector<float> values(n);
  std::normal_distribution<float> normal;
  const int64_t terms = std::max<int64_t>(
      type.shape.rank() < 2 ? 1 : type.shape.num_elements() / std::max<int64_t>(type.shape[0], 1),
      1);
  const float scale = fill == Fill::kWeights ? 1.0F / std::sqrt(static_cast<float>(terms)) : 1.0F;
  for (float& v : values) {
    v = fill == Fill::kIntegers ? static_cast<float>(static_cast<int>(random() % 9) - 4)
                                : scale * normal(random);
  }
  return Tensor::from(type.shape, values).to(type.dtype);
}

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return std::ldexp(1.0, -10);
    case DType::kBF16:
      return std::ldexp(1.0, -7);
    default:
      return std::ldexp(1.0, -23);
  }
}

// The inputs of a case with the reference's answer and the magnitude of what is summed.
struct Question {
  std::vector<graph::TypedOperand> typed_inputs, typed_outputs;
  std::vector<Tensor> inputs;
  Tensor answer;
  std::vector<double> magnitude;

  [[nodiscard]] graph::OpDesc desc(const Case& c) const {
    return {c.attrs, typed_inputs, typed_outputs};
  }
};

Tensor run_reference(const graph::OpAttrs& attrs, std::span<const graph::TypedOperand> typed,
                     const std::vector<Tensor>& inputs, DType out) {
  std::vector<TensorView> views;
  for (const Tensor& input : inputs) views.push_back(input.view());
  TensorType type = infer_types(attrs, typed).front();
  if (out != type.dtype && is_floating(type.dtype)) type.dtype = out;
  Tensor y(type);
  const std::vector<graph::TypedOperand> outputs{{Role::kY, type}};
  const std::vector<TensorView> y_view{y.view()};
  reference::run_op({attrs, typed, outputs}, views, y_view);
  return y;
}

// |u| + g (|c| + |u|): guidance of absolute values would cancel.
std::vector<double> guidance_magnitude(const std::vector<Tensor>& positive) {
  const auto x = positive[0].values<float>();
  const auto g = static_cast<double>(positive[1].values<float>()[1]);
  std::vector<double> result(x.size() / 2);
  for (size_t i = 0; i < result.size(); ++i) {
    const auto u = static_cast<double>(x[i]);
    result[i] = u + g * (static_cast<double>(x[result.size() + i]) + u);
  }
  return result;
}

// Value times gate, with the gate's own error and the residual.
std::vector<double> gated_magnitude(std::span<const float> sums, size_t width) {
  constexpr double kResidual = 4.0;
  std::vector<double> result(sums.size() / 2);
  for (size_t i = 0; i < result.size(); ++i) {
    const size_t at = i / width * 2 * width + i % width;
    result[i] =
        static_cast<double>(sums[at]) * (static_cast<double>(sums[at + width]) + 1.0) + kResidual;
  }
  return result;
}

// The same attributes without what is not a sum: activations, attention's softmax, clamping, signs.
OpAttrs linear_part(OpAttrs attrs) {
  if (auto* linear = std::get_if<graph::Linear>(&attrs)) {
    *linear = {};
  } else if (auto* conv = std::get_if<graph::Conv2d>(&attrs)) {
    conv->activation = Activation::kNone;
  } else if (auto* attention = std::get_if<graph::Attention>(&attrs)) {
    attention->scale = 0.0;
  } else if (auto* unary = std::get_if<graph::Unary>(&attrs)) {
    unary->activation = Activation::kNone;
  } else if (auto* affine = std::get_if<graph::Affine>(&attrs)) {
    *affine = {std::fabs(affine->scale), std::fabs(affine->shift)};
  }
  return attrs;
}

bool is_bounded_by_its_answer(const OpAttrs& attrs) {
  return std::holds_alternative<graph::GroupNorm>(attrs) ||
         std::holds_alternative<graph::LayerNorm>(attrs) ||
         std::holds_alternative<graph::Geglu>(attrs) ||
         std::holds_alternative<graph::Sinusoidal>(attrs);
}

// What the op makes of absolute values; for norms and the like, the largest answer plus one.
std::vector<double> magnitude_of(const Case& c, const Question& q) {
  if (is_bounded_by_its_answer(c.attrs)) {
    const Tensor answer = q.answer.to(DType::kF32);
    double top = 0.0;
    for (const float v : answer.values<float>())
      top = std::max(top, std::fabs(static_cast<double>(v)));
    return std::vector<double>(answer.values<float>().size(), top + 1.0);
  }
  const auto* linear = std::get_if<graph::Linear>(&c.attrs);
  const bool is_gated = linear != nullptr && linear->geglu;
  std::vector<Tensor> positive;
  std::vector<graph::TypedOperand> typed;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    if (is_gated && q.typed_inputs[i].role == Role::kResidual) continue;  // has the gated shape
    typed.push_back(q.typed_inputs[i]);
    const DType dtype = typed.back().type.dtype;
    if (!is_floating(dtype)) {
      positive.push_back(q.inputs[i].clone());
      continue;
    }
    Tensor f = q.inputs[i].to(DType::kF32);
    for (float& v : f.values<float>()) v = std::fabs(v);
    positive.push_back(f.to(dtype));
  }
  if (std::holds_alternative<graph::Guidance>(c.attrs)) return guidance_magnitude(positive);
  const Tensor sums = run_reference(linear_part(c.attrs), typed, positive, DType::kF32);
  const auto values = sums.values<float>();
  if (is_gated) return gated_magnitude(values, static_cast<size_t>(q.answer.shape()[-1]));
  return {values.begin(), values.end()};
}

Question make_question(const Case& c) {
  Question q;
  std::mt19937_64 random(std::hash<std::string>{}(c.name));
  for (const Input& input : c.inputs) {
    q.typed_inputs.push_back({input.role, input.type});
    q.inputs.push_back(make_tensor(input.type, input.fill, random));
  }
  const TensorType out = infer_types(c.attrs, q.typed_inputs).front();
  q.typed_outputs = {{Role::kY, out}};
  q.answer = run_reference(c.attrs, q.typed_inputs, q.inputs, out.dtype);
  q.magnitude = magnitude_of(c, q);
  return q;
}

void expect_close(const Case& c, const Question& q, const Tensor& got) {
  const Tensor y = got.to(DType::kF32);
  const Tensor r = q.answer.to(DType::kF32);
  const double eps = epsilon(got.type().dtype);
  size_t wrong = 0;
  for (size_t i = 0; i < y.values<float>().size(); ++i) {
    const auto have = static_cast<double>(y.values<float>()[i]);
    const auto want = static_cast<double>(r.values<float>()[i]);
    const double bound =
        c.roundings * eps * std::fabs(want) + c.depth * std::ldexp(1.0, -23) * q.magnitude[i];
    // f16 results below its normal range are spaced evenly.
    const double floor =
        c.roundings * (got.type().dtype == DType::kF16 ? std::ldexp(1.0, -24) : 0.0);
    if (std::fabs(have - want) <= std::max(bound, floor)) continue;
    if (++wrong <= 3) {
      ADD_FAILURE() << "element " << i << ": got " << have << ", wanted " << want << " within "
                    << bound;
    }
  }
  EXPECT_EQ(wrong, 0U) << "of " << q.magnitude.size() << " elements";
}

// Runs the call twice and returns its output.
Tensor run_kernel(const Kernel& kernel, const backend::DeviceInfo& info, const Case& c,
                  const Question& q, Layout layout, backend::Stream& stream) {
  const graph::OpDesc desc = q.desc(c);
  const backend::Config config =
      kernel.configs ? kernel.configs(desc, info).front() : backend::Config{};
  const size_t packed_bytes = kernel.packed_bytes ? kernel.packed_bytes(desc, info, config) : 0;
  GuardedMemory packed(packed_bytes);
  std::vector<GuardedTensor> inputs;
  std::vector<TensorView> views;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    const bool is_packed = packed_bytes > 0 && q.typed_inputs[i].role == Role::kWeight;
    // Coefficients are one small dense buffer by definition; a packed weight is dense when it is
    // packed.
    const bool plain = is_packed || q.typed_inputs[i].role == Role::kCoefficients;
    inputs.emplace_back(q.inputs[i].type(), plain ? Layout::kDense : layout);
    inputs.back().write(q.inputs[i]);
    views.push_back(inputs.back().view());
    if (is_packed) {
      EXPECT_FALSE(kernel.pack_key(desc, info, config).empty());
      kernel.pack(desc, info, config, inputs.back().view(), packed.data());
      views.back().data = packed.data();
    }
  }
  GuardedTensor output(q.answer.type(), layout);
  const std::vector<TensorView> outputs{output.view()};
  GuardedMemory workspace(kernel.workspace_bytes ? kernel.workspace_bytes(desc, info, config) : 0);
  const auto launch = kernel.prepare(desc, info, config, {views, outputs, workspace.data()});
  launch->enqueue(stream);
  Tensor first = output.read();
  workspace.poison();
  output.poison();
  launch->enqueue(stream);
  const Tensor second = output.read();
  EXPECT_EQ(std::memcmp(first.data(), second.data(), first.type().num_bytes()), 0) << "runs differ";
  EXPECT_TRUE(output.guards_intact()) << "output";
  EXPECT_TRUE(workspace.guards_intact()) << "workspace";
  EXPECT_TRUE(packed.guards_intact()) << "packed weight";
  for (const GuardedTensor& input : inputs) EXPECT_TRUE(input.guards_intact()) << "an input";
  return first;
}

void test_kernel(const Kernel& kernel, const backend::DeviceInfo& info, const Case& c,
                 const Question& q, backend::Stream& stream) {
  for (const Layout layout : {Layout::kDense, Layout::kMisaligned, Layout::kPitched}) {
    SCOPED_TRACE(std::string(to_string(layout)));
    expect_close(c, q, run_kernel(kernel, info, c, q, layout, stream));
  }
  // The number of threads is oneDNN's business; our own sums have one order.
  if (kernel.name.find("onednn") != std::string_view::npos) return;
  backend::DeviceInfo serial = info;
  serial.num_units = 1;
  const Tensor one = run_kernel(kernel, serial, c, q, Layout::kDense, stream);
  const Tensor many = run_kernel(kernel, info, c, q, Layout::kDense, stream);
  EXPECT_EQ(std::memcmp(one.data(), many.data(), one.type().num_bytes()), 0) << "threads matter";
}

class Conformance : public testing::TestWithParam<std::tuple<size_t, size_t>> {};

TEST_P(Conformance, EqualsReference) {
  const Processor& processor = processors()[std::get<0>(GetParam())];
  backend::cpu::CpuOptions options;
  options.threads = 2;
  options.disabled_features = processor.disabled;
  const auto device = backend::cpu::create_cpu_device(options);
  const Kernel& kernel = *device->kernels()[std::get<1>(GetParam())];
  backend::DeviceInfo info = device->info();
  for (const std::string& feature : processor.extra) info.features.push_back(feature);
  const auto stream = device->create_stream();
  size_t reached = 0;
  std::string reason = "no case of its op";
  for (const Case& c : all_cases()) {
    if (graph::kind_of(c.attrs) != kernel.op) continue;
    SCOPED_TRACE(c.name);
    const Question q = make_question(c);
    const backend::Support support = kernel.supports(q.desc(c), info);
    if (!support.ok) {
      EXPECT_FALSE(support.reason.empty());
      reason = support.reason;
      continue;
    }
    ++reached;
    test_kernel(kernel, info, c, q, *stream);
    if (HasFailure()) break;  // one case explains enough
  }
  if (reached == 0) GTEST_SKIP() << reason;
}

std::string test_name(const testing::TestParamInfo<std::tuple<size_t, size_t>>& info) {
  std::string name = processors()[std::get<0>(info.param)].name + "_" +
                     std::string(backend::cpu::all_kernels()[std::get<1>(info.param)]->name);
  std::ranges::replace(name, '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, Conformance,
    testing::Combine(testing::Range<size_t>(0, processors().size()),
                     testing::Range<size_t>(0, backend::cpu::all_kernels().size())),
    test_name);

// A kernel that no case reaches on any processor is untested.
TEST(ConformanceCases, ReachEveryKernel) {
  std::vector<backend::DeviceInfo> infos;
  const auto device = backend::cpu::create_cpu_device();
  for (const Processor& processor : processors()) {
    backend::cpu::CpuOptions options;
    options.disabled_features = processor.disabled;
    infos.push_back(backend::cpu::create_cpu_device(options)->info());
    for (const std::string& feature : processor.extra) infos.back().features.push_back(feature);
  }
  std::map<std::string_view, bool> reached;
  for (const Kernel* kernel : device->kernels()) reached[kernel->name] = false;
  for (const Case& c : all_cases()) {
    std::vector<graph::TypedOperand> inputs;
    for (const Input& input : c.inputs) inputs.push_back({input.role, input.type});
    const std::vector<graph::TypedOperand> outputs{
        {Role::kY, infer_types(c.attrs, inputs).front()}};
    for (const Kernel* kernel : device->kernels()) {
      if (kernel->op != graph::kind_of(c.attrs)) continue;
      for (const backend::DeviceInfo& info : infos) {
        if (kernel->supports({c.attrs, inputs, outputs}, info).ok) reached[kernel->name] = true;
      }
    }
  }
  for (const auto& [name, was_reached] : reached) EXPECT_TRUE(was_reached) << name;
}

}  // namespace
}  // namespace halftone::conformance
