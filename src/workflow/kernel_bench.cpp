#include "workflow/kernel_bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <new>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "halftone/error.h"

#include "backend/power_watch.h"
#include "graph/cost.h"
#include "metrics/summary.h"
#include "tensor/dtype.h"
#include "workflow/kernel_shapes.h"
#include "workflow/power.h"

namespace halftone::workflow {
namespace {

using backend::Buffer;
using backend::Kernel;

// Enough calls that a sample is not the clock's resolution.
constexpr double kSampleMs = 2;
constexpr int kMostCalls = 200;

uint64_t next_random(uint64_t& state) {
  state ^= state << 13U;
  state ^= state >> 7U;
  state ^= state << 17U;
  return state;
}

// The sum of four bytes: nearly normal, of deviation 148, in [-510, 510].
float near_normal(uint64_t random) {
  int sum = -510;
  for (int i = 0; i < 4; ++i)
    sum += static_cast<int>(random >> (8U * static_cast<unsigned>(i)) & 0xffU);
  return static_cast<float>(sum);
}

Tensor elements_of(DType dtype, const std::vector<float>& values) {
  const Shape shape = {static_cast<int64_t>(values.size())};
  if (dtype != DType::kI8) return Tensor::from(shape, values).to(dtype);
  Tensor codes(TensorType{dtype, shape});
  std::ranges::transform(values, codes.values<int8_t>().begin(),
                         [](float v) { return static_cast<int8_t>(std::lround(v)); });
  return codes;
}

// Values without a pattern: 16 bits and more have magnitudes from 0.25 to 0.5. Codes are as those
// of normal values whose largest is 3.4 deviations away, since what is multiplied decides what a
// hot device draws: int8 up to 127, E4M3, whose codes look the same at
// any power-of-two scale, up to 1.75.
std::vector<std::byte> random_bytes(const TensorType& type, bool positive) {
  uint64_t state = 88172645463325252U;
  std::vector<std::byte> bytes(type.num_bytes());
  constexpr size_t kValues = 4096;
  std::vector<float> values(kValues);
  const bool whole = type.dtype == DType::kI8;
  for (float& value : values) {
    const uint64_t r = next_random(state) >> 16U;
    if (size_of(type.dtype) == 1) {
      value = near_normal(r) / 510.0F * (whole ? 127.0F : 1.75F);
      continue;
    }
    const float magnitude = 0.25F + static_cast<float>(r >> 24U) * 0x1p-26F;
    value = positive || (r & 1U) != 0 ? magnitude : -magnitude;
  }
  const Tensor table = elements_of(type.dtype, values);
  const size_t element = size_of(type.dtype);
  for (size_t i = 0; i < bytes.size(); i += element) {
    const size_t from = (next_random(state) >> 20U) % kValues;
    std::copy_n(table.data() + from * element, element, bytes.data() + i);
  }
  return bytes;
}

// How a kernel is measured.
struct Sampling {
  int iterations = 3;
  double sustain_s = 0;  // of the same before the samples
  std::function<void()> before_sample = [] {};
  const backend::PowerMeter* meter = nullptr;  // asked while it runs so; may be null
};

struct Measured {
  double ms = 0, p10_ms = 0, p90_ms = 0;  // of a call; ms is the median
  PowerUse power{};
  std::string missing{};  // of it
};

// Operands and results of one shape in one element type, on the device.
class Operation {
 public:
  Operation(backend::Device& device, const KernelShape& shape, DType dtype)
      : device_(device),
        copies_(shape.weight_only ? copies_of(shape.out * shape.in) : 1),
        attrs_(shape.attrs(dtype)),
        in_(shape.operands(dtype)),
        out_(infer_outputs(attrs_, in_)) {}

  [[nodiscard]] graph::OpDesc desc() const { return {attrs_, in_, out_}; }

  // Kernels that take it, in the device's order; after the first only those that anybody would
  // compare with.
  [[nodiscard]] std::vector<const Kernel*> kernels() const {
    std::vector<const Kernel*> list;
    for (const Kernel* kernel : device_.kernels()) {
      if (kernel->op != kind_of(attrs_) || !supports(*kernel, desc(), device_.info()).ok) continue;
      const bool slow = kernel->name.ends_with(".plain") || kernel->name.ends_with(".reference");
      // Where only the reference makes or takes statistics or queries, nobody asks for them; of
      // 16-bit rows with codes neither.
      const bool fused = graph::makes_statistics(desc()) || graph::has_row_statistics(desc()) ||
                         graph::projects_queries(desc()) || copies_ > 1 ||
                         desc().input(graph::Role::kAmax) != nullptr;
      if (fused && kernel->name.ends_with(".reference")) continue;
      if (list.empty() || !slow) list.push_back(kernel);
    }
    return list;
  }

  // All of it or, where memory is short, nothing.
  void upload() {
    if (!inputs_.empty()) return;
    std::vector<std::unique_ptr<Buffer>> buffers;
    std::vector<TensorView> inputs, outputs;
    for (const graph::TypedOperand& operand : in_) {
      using enum graph::Role;
      constexpr graph::Role kScales[] = {kXScale, kWScale, kYScale, kQScale, kKScale, kVScale};
      const bool is_scale = std::ranges::find(kScales, operand.role) != std::end(kScales);
      const std::vector<std::byte> bytes = random_bytes(operand.type, is_scale);
      buffers.push_back(device_.allocate(bytes.size()));
      device_.upload(buffers.back()->data(), bytes.data(), bytes.size());
      inputs.emplace_back(operand.type, buffers.back()->data());
    }
    for (const graph::TypedOperand& operand : out_) {
      buffers.push_back(device_.allocate(operand.type.num_bytes()));
      outputs.emplace_back(operand.type, buffers.back()->data());
    }
    buffers_ = std::move(buffers);
    inputs_ = std::move(inputs);
    outputs_ = std::move(outputs);
  }

  // Of the operands and results, each once.
  [[nodiscard]] double gigabytes() const {
    size_t bytes = 0;
    for (const auto& list : {in_, out_}) {
      for (const graph::TypedOperand& operand : list) bytes += operand.type.num_bytes();
    }
    return static_cast<double>(bytes) * 1e-9;
  }

  // Recorded, where the device records, as plans run it.
  Measured measure(const Kernel& kernel, const Sampling& sampling) {
    upload();
    const backend::DeviceInfo& info = device_.info();
    const graph::OpDesc d = desc();
    const backend::Config config =
        kernel.configs == nullptr ? backend::Config{} : kernel.configs(d, info).at(0);
    const size_t scratch =
        kernel.workspace_bytes == nullptr ? 0 : kernel.workspace_bytes(d, info, config);
    const std::unique_ptr<Buffer> workspace = device_.allocate(scratch);
    std::vector<std::unique_ptr<Buffer>> copies;
    const auto launches = prepare(kernel, config, workspace->data(), copies);
    const auto stream = device_.create_stream();
    const auto enqueue = [&](int calls) {
      for (int i = 0; i < calls; ++i) {
        launches[static_cast<size_t>(i) % launches.size()]->enqueue(*stream);
      }
    };
    const auto time = [&](int calls, const std::function<void()>& run) {
      sampling.before_sample();
      stream->mark(0);
      run();
      stream->mark(1);
      stream->synchronize();
      return stream->ms_between(0, 1) / calls;
    };
    const auto one = [&] { return time(1, [&] { enqueue(1); }); };
    const double first = std::max(std::min(one(), one()), 1e-4);
    const int calls = std::clamp(static_cast<int>(kSampleMs / first), 1, kMostCalls);
    std::unique_ptr<backend::Recording> recording;
    if (stream->begin_recording()) {
      enqueue(calls);
      recording = stream->end_recording();
      recording->replay(*stream);  // the first is no sample
    }
    const auto run = [&] { recording != nullptr ? recording->replay(*stream) : enqueue(calls); };
    using Clock = std::chrono::steady_clock;
    Measured measured;
    backend::PowerWatch watch(sampling.meter);
    const Clock::time_point begin = Clock::now();
    const std::chrono::duration<double> sustained(sampling.sustain_s);
    while (Clock::now() - begin < sustained) time(calls, run);
    std::vector<double> samples;
    for (int i = 0; i < sampling.iterations; ++i) samples.push_back(time(calls, run));
    measured.power = watch.stop(0, measured.missing);
    std::ranges::sort(samples);
    measured.p10_ms = metrics::quantile(samples, 0.1);
    measured.ms = metrics::quantile(samples, 0.5);
    measured.p90_ms = metrics::quantile(samples, 0.9);
    return measured;
  }

 private:
  // So many that together they are larger than an H200's second level cache.
  [[nodiscard]] static size_t copies_of(int64_t bytes) {
    constexpr int64_t kTogether = int64_t{256} << 20;
    constexpr int64_t kMost = 32;
    return static_cast<size_t>(std::min(kTogether / bytes + 1, kMost));
  }

  // One call for each copy of the weight, which take turns and are constant, as a plan says of
  // them; the copies, packed where the kernel packs, lie in `copies`.
  [[nodiscard]] std::vector<std::unique_ptr<backend::Launch>> prepare(
      const Kernel& kernel, const backend::Config& config, void* workspace,
      std::vector<std::unique_ptr<Buffer>>& copies) const {
    const graph::OpDesc d = desc();
    const backend::DeviceInfo& info = device_.info();
    const size_t packed = kernel.packed_bytes == nullptr ? 0 : kernel.packed_bytes(d, info, config);
    std::vector<std::unique_ptr<backend::Launch>> launches;
    for (size_t copy = 0; copy < copies_; ++copy) {
      std::vector<TensorView> inputs = inputs_;
      uint32_t constants = 0;
      for (size_t i = 0; i < in_.size(); ++i) {
        if (in_[i].role != graph::Role::kWeight) continue;
        if (copies_ > 1) constants = 1U << i;
        if (packed == 0 && copy == 0) continue;
        copies.push_back(device_.allocate(packed > 0 ? packed : in_[i].type.num_bytes()));
        if (packed > 0) {
          kernel.pack(d, info, config, inputs[i], copies.back()->data());
        } else {
          const auto stream = device_.create_stream();
          device_.copy(copies.back()->data(), inputs[i].data, in_[i].type.num_bytes(), *stream);
          stream->synchronize();
        }
        inputs[i].data = copies.back()->data();
      }
      launches.push_back(kernel.prepare(d, info, config, {inputs, outputs_, workspace, constants}));
    }
    return launches;
  }

  backend::Device& device_;
  size_t copies_;  // of the weight
  graph::OpAttrs attrs_;
  std::vector<graph::TypedOperand> in_, out_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<TensorView> inputs_, outputs_;
};

std::vector<DType> chosen_types(const backend::DeviceInfo& info,
                                const KernelBenchOptions& options) {
  std::vector<DType> types;
  for (const std::string& name : options.dtypes) types.push_back(parse_dtype(name));
  if (!types.empty()) return types;
  if (info.has("cuda")) return {DType::kF16, DType::kF8E4M3, DType::kI8};
  types = {DType::kF32, DType::kI8};
  if (info.has("amx_bf16") || info.has("avx512_bf16")) types.push_back(DType::kBF16);
  return types;
}

void check_network(const std::string& name) {
  std::vector<std::string_view> known;
  for (const KernelShape& shape : kernel_shapes()) {
    if (std::ranges::find(known, shape.network) == known.end()) known.push_back(shape.network);
  }
  if (name.empty() || std::ranges::find(known, name) != known.end()) return;
  throw Error(Errc::kInvalidArgument,
              fmt::format("--network: got '{}', wanted one of {}", name, fmt::join(known, ", ")));
}

double measured_bandwidth(backend::Device& device) {
  constexpr size_t kBytes = size_t{64} << 20;
  const auto from = device.allocate(kBytes);
  const auto to = device.allocate(kBytes);
  const std::vector<std::byte> bytes(kBytes, std::byte{1});
  device.upload(from->data(), bytes.data(), kBytes);
  const auto stream = device.create_stream();
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    stream->mark(0);
    device.copy(to->data(), from->data(), kBytes, *stream);
    stream->mark(1);
    stream->synchronize();
    best = std::max(best, 2.0 * kBytes / (stream->ms_between(0, 1) * 1e6));
  }
  return best;
}

}  // namespace

double tflops_of(const Peaks& peaks, std::string_view dtype) {
  for (const auto& [name, tflops] : peaks.tflops) {
    if (name == dtype) return tflops;
  }
  return 0;
}

Peaks peaks_of(backend::Device& device, std::span<const DType> dtypes) {
  if (device.info().arch == "sm_90") {
    return {.source = "datasheet of the H200, dense",
            .tflops = {{"f16", 989}, {"bf16", 989}, {"i8", 1979}, {"f8e4m3", 1979}, {"f32", 67}},
            .gbyte_per_second = 4800};
  }
  constexpr KernelShape kLarge{.kind = KernelShape::Kind::kLinear,
                               .network = {},
                               .calls = 1,
                               .rows = 512,
                               .out = 1024,
                               .in = 2048};
  Peaks peaks{.source = "measured", .tflops = {}, .gbyte_per_second = measured_bandwidth(device)};
  for (const DType dtype : dtypes) {
    Operation operation(device, kLarge, dtype);
    double best = 0;
    for (const Kernel* kernel : operation.kernels()) {
      const double ms = operation.measure(*kernel, {}).ms;
      best = std::max(best, graph::flop_of(operation.desc()) / (ms * 1e9));
    }
    peaks.tflops.emplace_back(to_string(dtype), best);
  }
  return peaks;
}

namespace {

// A shape in a type.
struct Job {
  KernelShape shape;
  DType dtype;
};

std::vector<Job> chosen_jobs(const backend::DeviceInfo& info, const std::vector<DType>& types,
                             const KernelBenchOptions& options) {
  std::vector<Job> jobs;
  for (const KernelShape& of_one : kernel_shapes()) {
    if (!options.network.empty() && of_one.network != options.network) continue;
    const KernelShape shape = of_one.of_images(options.batch_size);
    if (shape.text().find(options.filter) == std::string::npos) continue;
    for (const DType dtype : types) {
      if (!shape.takes(dtype)) continue;
      // On a CPU 8-bit attention is a simulation.
      const bool attends = shape.kind == KernelShape::Kind::kAttention;
      if (attends && size_of(dtype) == 1 && !info.has("cuda")) continue;
      jobs.push_back({shape, dtype});
    }
  }
  return jobs;
}

KernelTime time_kernel(Operation& operation, const Kernel& kernel, const Job& job,
                       const Sampling& sampling, const Peaks& peaks, const Logger& logger) {
  KernelTime row{.shape = job.shape.text(),
                 .model = std::string(job.shape.network),
                 .dtype = std::string(to_string(job.dtype)),
                 .kernel = std::string(kernel.name),
                 .calls = job.shape.calls,
                 .power = {},
                 .problem = {}};
  row.gflop = graph::flop_of(operation.desc()) * 1e-9;
  try {
    const Measured measured = operation.measure(kernel, sampling);
    row.us = measured.ms * 1e3;
    row.p10_us = measured.p10_ms * 1e3;
    row.p90_us = measured.p90_ms * 1e3;
    row.tflops = row.gflop / measured.ms;
    row.gbyte_per_second = operation.gigabytes() / (measured.ms * 1e-3);
    row.power = measured.power;
    log_missing_power(logger, LogLevel::kDebug, measured.missing);
    const double peak = tflops_of(peaks, row.dtype);
    if (row.gflop == 0) {
      row.share = row.gbyte_per_second / peaks.gbyte_per_second;
    } else {
      row.share = peak > 0 ? row.tflops / peak : 0;
    }
  } catch (const Error& error) {  // a library that has no algorithm, a device without the memory
    if (error.code() == Errc::kCancelled) throw;
    row.problem = error.what();
  } catch (const std::bad_alloc&) {
    row.problem = "the host has not enough memory for the operands";
  }
  log(logger, LogLevel::kDebug, "bench",
      fmt::format("{} {} {}: {:.1f} us", row.shape, row.dtype, row.kernel, row.us));
  return row;
}

}  // namespace

KernelBenchReport bench_kernels(backend::Device& device, const KernelBenchOptions& options) {
  check_network(options.network);
  const std::vector<DType> types = chosen_types(device.info(), options);
  constexpr int kMostImages = 64;
  if (options.batch_size < 1 || options.batch_size > kMostImages) {
    throw Error(Errc::kInvalidArgument, fmt::format("--batch-size: got {}, wanted 1 to {} images",
                                                    options.batch_size, kMostImages));
  }
  constexpr double kMostSustained = 60;
  if (!(options.sustain_s >= 0 && options.sustain_s <= kMostSustained)) {
    throw Error(Errc::kInvalidArgument, fmt::format("--sustain: got {}, wanted 0 to {} seconds",
                                                    options.sustain_s, kMostSustained));
  }
  KernelBenchReport report{.device = device.info().name,
                           .arch = device.info().arch,
                           .batch_size = options.batch_size,
                           .sustain_s = options.sustain_s,
                           .peaks = peaks_of(device, types),
                           .kernels = {}};
  const std::vector<Job> jobs = chosen_jobs(device.info(), types, options);
  int done = 0;
  const auto before_sample = [&] {
    if (options.progress &&
        !options.progress({"kernels", done, static_cast<int>(jobs.size()), 0})) {
      throw Error(Errc::kCancelled, "cancelled while timing kernels");
    }
  };
  // What a kernel draws is known of one that runs for a while.
  const auto meter = options.sustain_s > 0 ? open_power_meter(device, options.logger) : nullptr;
  const Sampling sampling{.iterations = options.iterations,
                          .sustain_s = options.sustain_s,
                          .before_sample = before_sample,
                          .meter = meter.get()};
  for (const Job& job : jobs) {
    Operation operation(device, job.shape, job.dtype);
    for (const Kernel* kernel : operation.kernels()) {
      report.kernels.push_back(
          time_kernel(operation, *kernel, job, sampling, report.peaks, options.logger));
    }
    ++done;
  }
  return report;
}

}  // namespace halftone::workflow
