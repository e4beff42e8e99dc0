// Every kernel of CUDA's list against the reference on every case that it supports: outputs and
// workspace poisoned with NaN between guard zones; launches that overlap, launches in turn and
// recorded ones must agree bit for bit.
// Needs a GPU; without one every test says so and is skipped.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "halftone/error.h"

#include "amax_cases.h"
#include "attention_cases.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/hopper/attention_ops.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/stream.h"
#include "backend/power_watch.h"
#include "case.h"
#include "group_statistics_cases.h"
#include "norm_cases.h"
#include "random_walk.h"
#include "row_statistics_cases.h"

namespace halftone::conformance {
namespace {

using backend::Kernel;

constexpr size_t kGuardBytes = 4096;
constexpr size_t kPoisonBytes = size_t{1} << 20;

// The device of the whole program, or null with a reason.
struct Gpu {
  std::unique_ptr<backend::Device> device;
  std::string reason;
  bool overlaps = false;  // whether launches can
  Gpu() {
    const bool found = !backend::cuda::list_cuda_devices(&reason).empty();
    if (found) device = backend::cuda::create_cuda_device();
    overlaps = found && backend::cuda::overlaps_launches();
  }
};

Gpu& gpu() {
  static Gpu gpu;
  return gpu;
}

// Device memory between zones whose pattern must survive; filled with 0xff, NaN in every floating
// type.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes)
      : bytes_(bytes), buffer_(gpu().device->allocate(bytes + 2 * kGuardBytes)) {
    poison();
  }
  [[nodiscard]] std::byte* data() const {
    return static_cast<std::byte*>(buffer_->data()) + kGuardBytes;
  }
  // The zones and at most the first MiB: libraries ask for workspaces that few cases touch.
  void poison() {
    const std::vector<std::byte> pattern(kGuardBytes + std::min(bytes_, kPoisonBytes),
                                         std::byte{0xff});
    gpu().device->upload(buffer_->data(), pattern.data(), pattern.size());
    gpu().device->upload(data() + bytes_, pattern.data(), kGuardBytes);
  }
  void check_guards() const {
    EXPECT_TRUE(is_pattern(data() - kGuardBytes)) << "written before the buffer";
    EXPECT_TRUE(is_pattern(data() + bytes_)) << "written behind the buffer";
  }
  [[nodiscard]] std::vector<std::byte> read() const {
    check_guards();
    std::vector<std::byte> all(bytes_);
    gpu().device->download(all.data(), data(), bytes_);
    return all;
  }

 private:
  static bool is_pattern(const std::byte* zone) {
    std::vector<std::byte> bytes(kGuardBytes);
    gpu().device->download(bytes.data(), zone, kGuardBytes);
    return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0xff}; });
  }
  size_t bytes_;
  std::unique_ptr<backend::Buffer> buffer_;
};

// An operand, its rows `extra` elements apart.
struct GpuOperand {
  GuardedBuffer buffer;
  TensorView view;

  GpuOperand(const TensorType& type, int64_t extra)
      : buffer(bytes(type, extra)), view(type, buffer.data(), type.shape.row_size() + extra) {}
  static size_t bytes(const TensorType& type, int64_t extra) {
    return static_cast<size_t>(type.shape.num_rows() * (type.shape.row_size() + extra)) *
           size_of(type.dtype);
  }
  [[nodiscard]] size_t row_bytes() const {
    return static_cast<size_t>(view.type.shape.row_size()) * size_of(view.type.dtype);
  }
  [[nodiscard]] size_t pitch_bytes() const {
    return static_cast<size_t>(view.row_pitch) * size_of(view.type.dtype);
  }
  void write(const Tensor& dense) {
    const auto rows = static_cast<size_t>(view.type.shape.num_rows());
    std::vector<std::byte> pitched(rows * pitch_bytes(), std::byte{0xff});
    for (size_t row = 0; row < rows; ++row) {
      std::memcpy(pitched.data() + row * pitch_bytes(), dense.data() + row * row_bytes(),
                  row_bytes());
    }
    gpu().device->upload(buffer.data(), pitched.data(), pitched.size());
  }
  [[nodiscard]] Tensor read() const {
    const std::vector<std::byte> raw = buffer.read();
    Tensor dense(view.type);
    std::memcpy(dense.data(), raw.data(), raw.size());
    return dense;
  }
};

std::vector<Tensor> read_all(const std::vector<GpuOperand>& outputs) {
  std::vector<Tensor> tensors;
  for (const GpuOperand& output : outputs) tensors.push_back(output.read());
  return tensors;
}

// Whether the output may lie where the first input does.
bool replaces_input(const Kernel& kernel, const Question& q) {
  return kernel.in_place && q.answers[0].type() == q.inputs[0].type() &&
         q.answers[0].type().num_bytes() > 0;
}

// What `enqueue` enqueues, as a graph; the stream records no more whatever happens.
template <class F>
std::unique_ptr<backend::Recording> record(backend::Stream& stream, F enqueue) {
  EXPECT_TRUE(stream.begin_recording());
  try {
    enqueue();
  } catch (const Error&) {
    try {
      (void)stream.end_recording();
    } catch (const Error& ignored) {
      (void)ignored;
    }
    throw;
  }
  return stream.end_recording();
}

std::vector<Tensor> run_kernel(const Kernel& kernel, const Case& c, const Question& q,
                               int64_t extra, bool in_place = false) {
  backend::Device& device = *gpu().device;
  const backend::DeviceInfo& info = device.info();
  const graph::OpDesc desc = q.desc(c);
  const backend::Config config =
      kernel.configs != nullptr ? kernel.configs(desc, info).front() : backend::Config{};
  const size_t packed_bytes =
      kernel.packed_bytes != nullptr ? kernel.packed_bytes(desc, info, config) : 0;
  const GuardedBuffer packed(packed_bytes);
  const auto stream = device.create_stream();
  std::vector<GpuOperand> inputs;
  std::vector<TensorView> input_views;
  uint32_t constants = 0;
  for (const Tensor& input : q.inputs) {
    const size_t index = inputs.size();
    if (q.typed_inputs[index].role == Role::kWeight) constants |= uint32_t{1} << index;
    const int64_t between = extra / static_cast<int64_t>(size_of(input.type().dtype));
    inputs.emplace_back(input.type(), between).write(input);
    input_views.push_back(inputs.back().view);
    if (packed_bytes > 0 && q.typed_inputs[inputs.size() - 1].role == Role::kWeight) {
      kernel.pack(desc, info, config, inputs.back().view, packed.data());
      input_views.back().data = packed.data();
    }
  }
  std::vector<GpuOperand> outputs;
  std::vector<TensorView> output_views;
  for (const Tensor& answer : q.answers) {
    output_views.push_back(outputs.emplace_back(answer.type(), 0).view);
  }
  if (in_place) output_views[0] = input_views[0];
  const size_t workspace_bytes =
      kernel.workspace_bytes != nullptr ? kernel.workspace_bytes(desc, info, config) : 0;
  GuardedBuffer workspace(workspace_bytes);
  const auto launch =
      kernel.prepare(desc, info, config, {input_views, output_views, workspace.data(), constants});
  // More than once where nothing replaces its input: a launch may begin while the one before it
  // still reads and writes the same memory.
  const auto enqueue = [&] {
    for (int i = 0; i < (in_place ? 1 : 3); ++i) launch->enqueue(*stream);
  };
  enum class Way : uint8_t { kOverlapping, kInTurn, kRecorded };
  const auto run = [&](Way way) {
    backend::cuda::set_overlap_launches(way != Way::kInTurn && gpu().overlaps);
    for (GpuOperand& output : outputs) output.buffer.poison();  // preparing may have measured
    workspace.poison();
    inputs[0].write(q.inputs[0]);
    if (way == Way::kRecorded) {
      record(*stream, enqueue)->replay(*stream);
    } else {
      enqueue();
    }
    stream->synchronize();
    std::vector<Tensor> results = read_all(outputs);
    if (in_place) results[0] = inputs[0].read();
    return results;
  };
  std::vector<Tensor> first = run(Way::kOverlapping);
  for (const Way way : {Way::kInTurn, Way::kRecorded}) {
    const std::vector<Tensor> again = run(way);
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(std::memcmp(first[i].data(), again[i].data(), first[i].type().num_bytes()), 0)
          << (way == Way::kInTurn ? "a run of launches in turn differs" : "a recorded run differs");
    }
  }
  workspace.check_guards();
  packed.check_guards();
  for (const GpuOperand& input : inputs) input.buffer.check_guards();
  return first;
}

// The libraries' kernels round before an epilogue of ours, but for products of rows that are yet to
// be normalized; attention rounds its weights, which exceed their mean by up to e^4.
double inner_roundings(const Kernel& kernel, const graph::OpDesc& desc) {
  if (kernel.op == graph::OpKind::kAttention) return 8.0;
  if (desc.input(Role::kRowStatistics) != nullptr) return 0.0;
  return kernel.name.ends_with("plain") ? 0.0 : 1.0;
}

// The tensor cores round a sum of f8 products to 13 bits after every 32 of them.
Case with_narrow_sums(const Case& c, const Question& q) {
  Case wider = c;
  for (const graph::TypedOperand& operand : q.typed_inputs) {
    const Shape& shape = operand.type.shape;
    if (operand.role != Role::kWeight || operand.type.dtype != DType::kF8E4M3) continue;
    const int64_t terms = shape.num_elements() / shape[0];
    wider.depth += 1024.0 * static_cast<double>(terms / 32 + shape.num_rows() / shape[0]);
  }
  // Such scores, and maxima of the keys so far, put some weights one code, 2^-4 to 2^-3 of them,
  // beside the reference's; then a result in codes is rounded once more.
  const auto* attention = std::get_if<graph::Attention>(&c.attrs);
  if (attention != nullptr && attention->probabilities == DType::kF8E4M3) {
    wider.depth += std::ldexp(1.0, 23 - 5);
    wider.steps += 1;
  }
  return wider;
}

// Adds failures for what a kernel makes of a case.
void check(const Kernel& kernel, const Case& c, const Question& q) {
  for (const int64_t extra : {0, 32}) {                                 // bytes
    if (extra > 0 && kernel.op != graph::OpKind::kAttention) continue;  // dense by contract
    try {
      const Case bound = kernel.name.ends_with("hopper") ? with_narrow_sums(c, q) : c;
      expect_close(bound, q, run_kernel(kernel, c, q, extra), inner_roundings(kernel, q.desc(c)));
      if (!replaces_input(kernel, q)) continue;
      expect_close(bound, q, run_kernel(kernel, c, q, extra, true),
                   inner_roundings(kernel, q.desc(c)));
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
}

class CudaConformance : public testing::TestWithParam<size_t> {};

TEST_P(CudaConformance, EqualsReference) {
  if (gpu().device == nullptr) GTEST_SKIP() << "no CUDA device: " << gpu().reason;
  const Kernel& kernel = *backend::cuda::all_kernels()[GetParam()];
  size_t reached = 0;
  std::string reason = "no case of its op";
  std::vector<Case> cases = all_cases();
  std::ranges::copy(large_norm_cases(), std::back_inserter(cases));
  std::ranges::copy(joined_norm_cases(), std::back_inserter(cases));
  std::ranges::copy(large_row_statistics_cases(), std::back_inserter(cases));
  std::ranges::copy(group_statistics_cases(), std::back_inserter(cases));
  std::ranges::copy(large_amax_cases(), std::back_inserter(cases));
  std::ranges::copy(large_quantize_amax_cases(), std::back_inserter(cases));
  for (const Case& c : cases) {
    if (graph::kind_of(c.attrs) != kernel.op) continue;
    SCOPED_TRACE(c.name);
    const backend::Support support = supports(kernel, types_of(c).desc(c), gpu().device->info());
    if (!support.ok) {
      EXPECT_FALSE(support.reason.empty());
      reason = support.reason;
      continue;
    }
    ++reached;
    check(kernel, c, make_question(c));
    if (HasFailure()) break;  // one case explains enough
  }
  if (reached == 0) GTEST_SKIP() << reason;
}

std::string test_name(const testing::TestParamInfo<size_t>& info) {
  std::string name(backend::cuda::all_kernels()[info.param]->name);
  std::ranges::replace(name, '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Gpu, CudaConformance,
                         testing::Range<size_t>(0, backend::cuda::all_kernels().size()), test_name);

// Every kernel for attentions that compute their queries, also those that would not be chosen:
// with weights that the launch before may have written, then with such that are read ahead of it.
class ProjectedAttention {
 public:
  ProjectedAttention(const Case& c, const Question& q, int64_t extra)
      : c_(c), q_(q), y_(q.answers[0].type(), 0), stream_(gpu().device->create_stream()) {
    for (const Tensor& input : q.inputs) {
      const int64_t between = extra / static_cast<int64_t>(size_of(input.type().dtype));
      inputs_.emplace_back(input.type(), between).write(input);
      views_.push_back(inputs_.back().view);
    }
  }

  void check_all() {
    for (const uint32_t constants : {0U, ~0U}) {
      const std::vector<TensorView> outputs{y_.view};
      const auto problem =
          backend::cuda::project_problem_of(q_.desc(c_), {views_, outputs, nullptr, constants});
      for (const auto* kernel : backend::cuda::hopper::project_candidates(problem)) {
        SCOPED_TRACE(kernel->name() + (constants != 0 ? " reads ahead" : ""));
        check(backend::cuda::hopper::ProjectAttention(*kernel, problem));
      }
    }
  }

  // What the kernel of the linear and the one for few keys make of it, one after the other.
  [[nodiscard]] Tensor in_two_launches() const {
    std::vector<graph::TypedOperand> linear_in, attention_in;
    std::vector<TensorView> linear_views, attention_views;
    for (size_t i = 0; i < views_.size(); ++i) {
      const bool of_linear = graph::is_of_query_linear(q_.typed_inputs[i].role);
      (of_linear ? linear_in : attention_in).push_back(q_.typed_inputs[i]);
      (of_linear ? linear_views : attention_views).push_back(views_[i]);
    }
    const OpAttrs linear = graph::query_linear(q_.typed_inputs);
    const TensorType q_type = infer_types(linear, linear_in).front();
    const GpuOperand queries(q_type, 0);
    attention_in.push_back({Role::kQ, q_type});
    attention_views.push_back(queries.view);
    launch("cuda.linear.hopper", linear, linear_in, linear_views, queries);
    launch("cuda.attention.few_keys.hopper", c_.attrs, attention_in, attention_views, y_);
    return y_.read();
  }

 private:
  void check(const backend::cuda::hopper::ProjectAttention& bound) {
    constexpr int kRuns = 30;
    const auto run = [&](int times) {
      y_.buffer.poison();
      for (int i = 0; i < times; ++i) bound.launch(backend::cuda::handle_of(*stream_));
      stream_->synchronize();
      return y_.read();
    };
    std::vector<Tensor> first;
    first.push_back(run(1));
    expect_close(with_narrow_sums(c_, q_), q_, first, 8.0);
    EXPECT_EQ(std::memcmp(first[0].data(), run(kRuns).data(), first[0].type().num_bytes()), 0)
        << "another result";
  }

  void launch(std::string_view name, const OpAttrs& attrs,
              const std::vector<graph::TypedOperand>& typed, const std::vector<TensorView>& views,
              const GpuOperand& y) const {
    const Kernel& kernel = *backend::find_kernel(backend::cuda::all_kernels(), name);
    const std::vector<graph::TypedOperand> typed_outputs = infer_outputs(attrs, typed);
    const std::vector<TensorView> outputs{y.view};
    const graph::OpDesc desc{attrs, typed, typed_outputs};
    ASSERT_TRUE(supports(kernel, desc, gpu().device->info()).ok) << name;
    kernel.prepare(desc, gpu().device->info(), {}, {views, outputs})->enqueue(*stream_);
    stream_->synchronize();
  }

  const Case& c_;
  const Question& q_;
  GpuOperand y_;
  std::unique_ptr<backend::Stream> stream_;
  std::vector<GpuOperand> inputs_;
  std::vector<TensorView> views_;
};

// Integer products make the same queries, and what follows is the same arithmetic. In bf16 no
// linear of codes ends.
void expect_two_launches_agree(const Case& c, const Question& q) {
  if (q.inputs[0].type().dtype != DType::kI8 || q.inputs[2].type().dtype != DType::kF16) return;
  const Kernel& kernel =
      *backend::find_kernel(backend::cuda::all_kernels(), "cuda.attention.project.hopper");
  const Tensor one = std::move(run_kernel(kernel, c, q, 0)[0]);
  const Tensor two = ProjectedAttention(c, q, 0).in_two_launches();
  EXPECT_EQ(std::memcmp(one.data(), two.data(), one.type().num_bytes()), 0)
      << "two launches make another result";
}

TEST(CudaProjectedAttention, EveryKernelEqualsReference) {
  if (gpu().device == nullptr) GTEST_SKIP() << "no CUDA device: " << gpu().reason;
  const Kernel& kernel =
      *backend::find_kernel(backend::cuda::all_kernels(), "cuda.attention.project.hopper");
  std::vector<Case> cases = projected_attention_cases();
  std::ranges::copy(large_projected_attention_cases(), std::back_inserter(cases));
  size_t reached = 0;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    if (!supports(kernel, types_of(c).desc(c), gpu().device->info()).ok) continue;
    ++reached;
    const Question q = make_question(c);
    for (const int64_t extra : {0, 32}) ProjectedAttention(c, q, extra).check_all();
    expect_two_launches_agree(c, q);
    if (HasFailure()) break;  // one case explains enough
  }
  if (reached == 0) GTEST_SKIP() << "needs compute capability 9.0";
}

class CudaRandomCases : public testing::TestWithParam<Family> {};

TEST_P(CudaRandomCases, EqualReference) {
  if (gpu().device == nullptr) GTEST_SKIP() << "no CUDA device: " << gpu().reason;
  constexpr uint64_t kStream = 100;  // beside those of the CPU's processors
  Walk walk{GetParam(), kStream, 60};
  walk.take_environment();
  std::map<std::string, int> runs;
  const uint64_t refused = walk.each([&](const Case& c, uint64_t) {
    SCOPED_TRACE(c.name);
    const Question types = types_of(c);
    const graph::OpDesc desc = types.desc(c);
    std::optional<Question> q;
    for (const Kernel* kernel : backend::cuda::all_kernels()) {
      if (kernel->op != graph::kind_of(c.attrs)) continue;
      if (!supports(*kernel, desc, gpu().device->info()).ok) continue;
      if (!q) q = answered(c);
      if (!q) return;
      SCOPED_TRACE(kernel->name);
      print_if_wanted(std::string(kernel->name), c);
      check(*kernel, c, *q);
      ++runs[std::string(kernel->name)];
    }
  });
  for (const auto& [name, count] : runs) RecordProperty(name, count);
  EXPECT_LE(refused, walk.count / 4 + 1) << "cases that type inference refuses";
  EXPECT_FALSE(runs.empty()) << "no kernel takes any";
}

std::string family_name(const testing::TestParamInfo<Family>& info) {
  return std::string(to_string(info.param));
}

INSTANTIATE_TEST_SUITE_P(Gpu, CudaRandomCases, testing::ValuesIn(kFamilies), family_name);

std::vector<std::byte> numbered(size_t bytes) {
  std::vector<std::byte> values(bytes);
  for (size_t i = 0; i < bytes; ++i) values[i] = static_cast<std::byte>(i % 251);
  return values;
}

// What a buffer held when the side stream joined, whatever the common order does to it later; sizes
// around the pieces of pinned memory, all of which are taken.
TEST(CudaDevice, UploadsInPiecesAndDownloadsBehindASideStream) {
  if (gpu().device == nullptr) GTEST_SKIP() << "no CUDA device: " << gpu().reason;
  backend::Device& device = *gpu().device;
  const auto stream = device.create_stream();
  const auto side = device.create_side_stream();
  constexpr size_t kPiece = size_t{2} << 20;
  for (const size_t bytes : {size_t{1}, size_t{4096}, kPiece, kPiece + 1, 19 * kPiece + 5}) {
    const GuardedBuffer buffer(bytes);
    const GuardedBuffer kept(bytes);
    const std::vector<std::byte> values = numbered(bytes);
    device.upload(buffer.data(), values.data(), bytes);
    device.copy(kept.data(), buffer.data(), bytes, *stream);
    side->wait_for(*stream);
    const std::vector<std::byte> other(bytes, std::byte{7});
    device.upload(buffer.data(), other.data(), bytes);
    std::vector<std::byte> read(bytes);
    device.download_behind(*side, read.data(), kept.data(), bytes);
    EXPECT_EQ(read, values) << bytes;
    EXPECT_EQ(kept.read(), values) << bytes;
    EXPECT_EQ(buffer.read(), other) << bytes;
  }
}

TEST(CudaDevice, CopiesRowsBetweenPitches) {
  if (gpu().device == nullptr) GTEST_SKIP() << "no CUDA device: " << gpu().reason;
  backend::Device& device = *gpu().device;
  const auto stream = device.create_stream();
  constexpr size_t kRows = 77;
  for (const size_t bytes : {size_t{4}, size_t{12}, size_t{3072}}) {
    const size_t from_pitch = bytes + 8;
    const size_t to_pitch = 2 * bytes + 20;
    const GuardedBuffer from(kRows * from_pitch);
    const GuardedBuffer to(kRows * to_pitch);
    const std::vector<std::byte> values = numbered(kRows * from_pitch);
    device.upload(from.data(), values.data(), values.size());
    device.copy_rows(to.data() + bytes, to_pitch, from.data(), from_pitch, bytes, kRows, *stream);
    std::vector<std::byte> expected(kRows * to_pitch, std::byte{0xff});
    for (size_t row = 0; row < kRows; ++row) {
      std::memcpy(expected.data() + row * to_pitch + bytes, values.data() + row * from_pitch,
                  bytes);
    }
    EXPECT_EQ(to.read(), expected) << bytes;
  }
}

// The clock between two marks goes on, and a mark that is reached can be waited for.
TEST(CudaDevice, MarksTellTheTime) {
  if (gpu().device == nullptr) GTEST_SKIP() << "no CUDA device: " << gpu().reason;
  const GuardedBuffer buffer(size_t{64} << 20);
  const auto stream = gpu().device->create_stream();
  stream->mark(0);
  const std::vector<std::byte> values(size_t{64} << 20);
  gpu().device->upload(buffer.data(), values.data(), values.size());
  stream->mark(1);
  stream->wait_for_mark(1);
  EXPECT_GT(stream->ms_between(0, 1), 0.1);
}

// In watts, joules and megahertz, and in steps that are short enough for kLeastEnergySeconds.
TEST(CudaDevice, TellsPowerAndClock) {
  if (gpu().device == nullptr) GTEST_SKIP() << "no CUDA device: " << gpu().reason;
  std::string missing;
  const auto meter = gpu().device->open_power_meter(missing);
  if (meter == nullptr) GTEST_SKIP() << missing;
  fmt::print("left out: {}\n", missing.empty() ? "nothing" : missing);
  const bool counts = meter->energy_j().has_value();
  constexpr size_t kBytes = size_t{256} << 20;
  const auto from = gpu().device->allocate(kBytes);
  const auto to = gpu().device->allocate(kBytes);
  const auto stream = gpu().device->create_stream();
  using Clock = std::chrono::steady_clock;
  // Copies for two seconds, a few milliseconds at a time.
  const auto work = [&](const std::function<void()>& between) {
    for (const auto begin = Clock::now(); Clock::now() - begin < std::chrono::seconds(2);) {
      for (int i = 0; i < 20; ++i) gpu().device->copy(to->data(), from->data(), kBytes, *stream);
      stream->synchronize();
      between();
    }
  };
  backend::PowerWatch watch(meter.get());
  work([] {});
  const PowerUse use = watch.stop(1, missing);
  const auto is_between = [](std::optional<double> value, double least, double most) {
    if (value) {
      EXPECT_GT(*value, least);
      EXPECT_LT(*value, most);
    }
  };
  EXPECT_EQ(use.power_w.has_value(), counts) << missing;
  is_between(use.power_w, 10, 2000);
  is_between(use.energy_j_per_image, 20, 8000);
  is_between(use.power_limit_w, 10, 2000);
  is_between(use.sm_clock_mhz, 100, 5000);
  if (!counts) return;
  int steps = 0;
  double last = meter->energy_j().value_or(0);
  work([&] {
    const double now = meter->energy_j().value_or(0);
    EXPECT_GE(now, last);
    steps += now > last ? 1 : 0;
    last = now;
  });
  EXPECT_GE(steps, 2 * 8);
  const auto begin = Clock::now();
  for (int i = 0; i < 100; ++i) static_cast<void>(meter->clock_mhz());
  const std::chrono::duration<double, std::micro> asking = Clock::now() - begin;
  fmt::print("{:.1f} W, {:.0f} MHz; {} steps of the counter in 2 s; the clock takes {:.0f} us\n",
             use.power_w.value_or(0), use.sm_clock_mhz.value_or(0), steps, asking.count() / 100);
}

// Plans name kernels.
TEST(CudaKernels, NamesAreUnique) {
  std::vector<std::string_view> names;
  for (const Kernel* kernel : backend::cuda::all_kernels()) {
    EXPECT_TRUE(kernel->name.starts_with("cuda.")) << kernel->name;
    EXPECT_EQ(std::ranges::count(names, kernel->name), 0) << kernel->name;
    names.push_back(kernel->name);
  }
}

}  // namespace
}  // namespace halftone::conformance
