// The Hopper attention kernels on problems that fill a GPU: the same bytes in many runs, near what
// the plain kernels make. Skipped without a GPU.
#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "backend/cuda/cuda_device.h"
#include "backend/cuda/kernels.h"
#include "graph/ops/ops.h"
#include "tensor/quantized.h"
#include "tensor/tensor.h"

namespace halftone::conformance {
namespace {

using backend::Kernel;
using graph::Role;

constexpr int kRuns = 200;

struct Problem {
  graph::OpAttrs attrs;
  std::vector<graph::TypedOperand> in, out;
  std::vector<Tensor> inputs;

  void add(Role role, const TensorType& type, std::mt19937& random) {
    in.push_back({role, type});
    Tensor t(type);
    if (size_of(type.dtype) == 1) {
      // Of f8e4m3 magnitudes up to 7.5.
      const unsigned mask = type.dtype == DType::kI8 ? 0xffU : 0xcfU;
      for (uint8_t& v : t.values<uint8_t>()) v = static_cast<uint8_t>(random() & mask);
    } else {
      std::normal_distribution<float> normal;
      std::vector<float> values(static_cast<size_t>(type.shape.num_elements()));
      const bool is_scale = type.dtype == DType::kF32;
      for (float& v : values) v = is_scale ? 0.02F + 0.002F * normal(random) : normal(random);
      t = Tensor::from(type.shape, values).to(type.dtype);
    }
    inputs.push_back(std::move(t));
  }
};

// In 16 bits, or q and k as codes of `dtype`; the result in codes of `to`, or, f32, in 16 bits.
Problem make_problem(DType dtype, bool by_part, int64_t batch, int64_t queries, int64_t keys,
                     int64_t heads, DType to = DType::kF32, double scale = 0.125) {
  std::mt19937 random(7);
  const bool codes = size_of(dtype) == 1;
  graph::Attention op{heads, scale, false};
  if (codes) {
    op.probabilities = DType::kF8E4M3;
    op.out = DType::kF16;
  }
  if (to != DType::kF32) op.out = to;
  Problem p{op, {}, {}, {}};
  const Shape kv{batch, keys, heads * 64};
  p.add(Role::kQ, {dtype, {batch, queries, heads * 64}}, random);
  p.add(Role::kK, {dtype, kv}, random);
  p.add(Role::kV, {codes ? DType::kF8E4M3 : dtype, kv}, random);
  if (codes) {
    p.add(Role::kQScale, {DType::kF32, {by_part ? batch * queries * heads : 1}}, random);
    p.add(Role::kKScale, {DType::kF32, {by_part ? batch * keys * heads : 1}}, random);
    p.add(Role::kVScale, {DType::kF32, {1}}, random);
  }
  if (to != DType::kF32) {
    p.add(Role::kYScale, {DType::kF32, {1}}, random);
    p.inputs.back().values<float>()[0] = 0.002F;
  }
  for (const TensorType& type : infer_types(p.attrs, p.in)) p.out.push_back({Role::kY, type});
  return p;
}

const Kernel& kernel_of(std::string_view name) {
  for (const Kernel* kernel : backend::cuda::all_kernels()) {
    if (kernel->name == name) return *kernel;
  }
  throw std::logic_error("no such kernel");
}

// The result of the first run; `moving` counts the later runs whose bytes differ.
Tensor run(backend::Device& device, const Kernel& kernel, const Problem& p, int runs, int& moving) {
  const graph::OpDesc desc{p.attrs, p.in, p.out};
  std::vector<std::unique_ptr<backend::Buffer>> buffers;
  const auto place = [&](const TensorType& type) {
    buffers.push_back(device.allocate(type.num_bytes()));
    return TensorView(type, buffers.back()->data());
  };
  std::vector<TensorView> inputs;
  for (const Tensor& input : p.inputs) {
    inputs.push_back(place(input.type()));
    device.upload(inputs.back().data, input.data(), input.type().num_bytes());
  }
  const std::vector<TensorView> outputs{place(p.out[0].type)};
  const size_t scratch = kernel.workspace_bytes == nullptr
                             ? 0
                             : kernel.workspace_bytes(desc, device.info(), backend::Config{});
  const auto workspace = device.allocate(scratch);
  const auto launch =
      kernel.prepare(desc, device.info(), backend::Config{}, {inputs, outputs, workspace->data()});
  const auto stream = device.create_stream();
  const std::vector<std::byte> poison(p.out[0].type.num_bytes(), std::byte{0xff});
  Tensor first(p.out[0].type), y(p.out[0].type);
  moving = 0;
  for (int i = 0; i < runs; ++i) {
    device.upload(outputs[0].data, poison.data(), poison.size());
    launch->enqueue(*stream);
    stream->synchronize();
    Tensor& to = i == 0 ? first : y;
    device.download(to.data(), outputs[0].data, poison.size());
    if (i > 0) moving += static_cast<int>(std::memcmp(first.data(), y.data(), poison.size()) != 0);
  }
  return first;
}

double relative_error(const Tensor& want, const Tensor& got) {
  const Tensor a = want.to(DType::kF32);
  const Tensor b = got.to(DType::kF32);
  double difference = 0, energy = 0;
  for (size_t i = 0; i < a.values<float>().size(); ++i) {
    const auto x = static_cast<double>(a.values<float>()[i]);
    difference += std::pow(static_cast<double>(b.values<float>()[i]) - x, 2);
    energy += x * x;
  }
  return std::sqrt(difference / energy);
}

TEST(CudaAttention, LargeProblemsAreSteadyAndRight) {
  std::string reason;
  if (backend::cuda::list_cuda_devices(&reason).empty()) GTEST_SKIP() << "no GPU: " << reason;
  const auto device = backend::cuda::create_cuda_device();
  struct Row {
    const char* kernel;
    DType dtype;
    bool by_part;
    int64_t queries, keys;
    double error;
    double scale = 0.125;
    int64_t batch = 2;
  };
  // A batch of 32 gives a block of few keys several turns. A scale of 2 spreads scores so far that
  // in half of all rows later keys outweigh the first 128 by more than a weight may grow. In 8 bits
  // weights are rounded relative to the maxima of the keys so far: 0.03 in a simulation.
  for (const Row& row : {Row{"hopper", DType::kF16, false, 1000, 1000, 1e-3},
                         Row{"hopper", DType::kF16, false, 1000, 1000, 1e-3, 2.0},
                         Row{"hopper", DType::kBF16, false, 1000, 1000, 8e-3, 2.0},
                         Row{"few_keys.hopper", DType::kF16, false, 4096, 77, 1e-3},
                         Row{"few_keys.hopper", DType::kBF16, false, 1024, 77, 8e-3},
                         Row{"few_keys.hopper", DType::kF16, false, 1001, 128, 1e-3},
                         Row{"few_keys.hopper", DType::kF16, false, 1000, 77, 1e-3, 0.125, 32},
                         Row{"codes.hopper", DType::kF8E4M3, false, 1024, 1024, 0.05},
                         Row{"codes.hopper", DType::kF8E4M3, true, 1000, 999, 0.05},
                         Row{"codes.hopper", DType::kI8, true, 1024, 1024, 0.05}}) {
    const std::string name = std::string("cuda.attention.") + row.kernel;
    SCOPED_TRACE(name + " " + std::string(to_string(row.dtype)));
    const Problem p = make_problem(row.dtype, row.by_part, row.batch, row.queries, row.keys, 10,
                                   DType::kF32, row.scale);
    const Kernel& kernel = kernel_of(name);
    if (!kernel.supports({p.attrs, p.in, p.out}, device->info()).ok) continue;
    int moving = 0;
    const Tensor got = run(*device, kernel, p, kRuns, moving);
    EXPECT_EQ(moving, 0) << "of " << kRuns - 1 << " later runs";
    const bool codes = size_of(row.dtype) == 1;
    const Tensor want =
        run(*device, kernel_of(codes ? "cuda.attention.codes.plain" : "cuda.attention.plain"), p, 1,
            moving);
    const double error = relative_error(want, got);
    RecordProperty(std::string(row.kernel), std::to_string(error));
    EXPECT_LT(error, row.error);
  }
}

// Codes of the values that the same kernel makes, but for those that their rounding to 16 bits
// moves by one: values around 0.1 are 2^-14 apart, codes 0.002.
TEST(CudaAttention, LargeProblemsEndInCodes) {
  std::string reason;
  if (backend::cuda::list_cuda_devices(&reason).empty()) GTEST_SKIP() << "no GPU: " << reason;
  const auto device = backend::cuda::create_cuda_device();
  struct Row {
    const char* kernel;
    int64_t queries, keys;
    DType dtype = DType::kF16;
    bool by_part = false;
  };
  for (const Row& row :
       {Row{"hopper", 1024, 1024}, Row{"hopper", 1000, 999}, Row{"few_keys.hopper", 4096, 77},
        Row{"few_keys.hopper", 1001, 128}, Row{"codes.hopper", 1024, 1024, DType::kF8E4M3},
        Row{"codes.hopper", 1000, 999, DType::kF8E4M3},
        Row{"codes.hopper", 1000, 999, DType::kF8E4M3, true},
        Row{"codes.hopper", 1024, 1024, DType::kI8, true}}) {
    for (const DType to : {DType::kI8, DType::kF8E4M3}) {
      SCOPED_TRACE(fmt::format("{} {} {}", row.kernel, to_string(row.dtype), to_string(to)));
      const Problem p = make_problem(row.dtype, row.by_part, 2, row.queries, row.keys, 10, to);
      const Problem plain = make_problem(row.dtype, row.by_part, 2, row.queries, row.keys, 10);
      const Kernel& kernel = kernel_of(std::string("cuda.attention.") + row.kernel);
      if (!kernel.supports({p.attrs, p.in, p.out}, device->info()).ok) {
        EXPECT_FALSE(device->info().has("sm_90a")) << "refused";
        continue;
      }
      int moving = 0;
      const Tensor got = run(*device, kernel, p, kRuns, moving);
      EXPECT_EQ(moving, 0) << "of " << kRuns - 1 << " later runs";
      const Tensor values = run(*device, kernel, plain, 1, moving).to(DType::kF32);
      const float inverse = inverse_scale(p.inputs.back().values<float>()[0]);
      size_t one = 0;
      size_t more = 0;
      for (size_t i = 0; i < values.values<float>().size(); ++i) {
        const float v = values.values<float>()[i];
        const auto byte = got.values<uint8_t>()[i];
        const auto ordered = [](uint8_t f8) {
          return (f8 & 0x80U) != 0 ? -(f8 & 0x7f) : f8 & 0x7f;
        };
        const int apart = to == DType::kI8 ? static_cast<int8_t>(byte) -
                                                 quantize_integer(v, inverse, 0, -128, 127)
                                           : ordered(byte) - ordered(quantize_f8e4m3(v, inverse));
        one += apart == 1 || apart == -1 ? 1U : 0U;
        more += std::abs(apart) > 1 ? 1U : 0U;
      }
      EXPECT_EQ(more, 0U);
      EXPECT_LE(one, values.values<float>().size() / 20);
    }
  }
}

}  // namespace
}  // namespace halftone::conformance
