// Times the CPU's kernels on the shapes of SDXL-Turbo at 512x512 and of the embedded model at
// 256x256.
//
//   bench_kernels [--filter TEXT] [--all] [--threads N] [--repeats N] [--json FILE]
//
// Each op runs on the kernel that a plan would choose; --all times every kernel but the reference.
// A buffer larger than the second level cache is written between runs. Prints a table of median,
// p10 and p90, GFLOP/s and the share of the machine's measured peak (multiply-adds of the own
// register tiles in the first level cache: of f32; of i8; of bf16 with AMX), and one JSON object a
// line to FILE.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>
#include <omp.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/simd/panels.h"
#include "backend/cpu/simd/vector_ops.h"
#include "build_members.h"

namespace {

using halftone::DType;
using halftone::Errc;
using halftone::Error;
using halftone::Shape;
using halftone::Tensor;
using halftone::TensorType;
using halftone::TensorView;
using halftone::backend::Config;
using halftone::backend::DeviceInfo;
using halftone::backend::Kernel;
using halftone::graph::Activation;
using halftone::graph::OpAttrs;
using halftone::graph::OpDesc;
using halftone::graph::Role;
using halftone::graph::TypedOperand;
namespace graph = halftone::graph;

struct Options {
  std::string filter, json;
  bool all = false;
  int threads = 0;
  int repeats = 20;
};

// One op of a model: how often a forward pass runs it, and its arithmetic.
struct Shot {
  std::string model, name;
  OpAttrs attrs;
  std::vector<TypedOperand> inputs;
  int count = 1;
  double flops = 0.0;
};

struct Times {
  double median = 0.0, p10 = 0.0, p90 = 0.0;  // seconds
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Times measure(int repeats, const std::function<void()>& run) {
  static std::vector<char> flush(8U << 20U);
  run();
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    std::memset(flush.data(), i, flush.size());
    const double start = now();
    run();
    seconds.push_back(now() - start);
  }
  std::ranges::sort(seconds);
  const auto at = [&](double share) {
    return seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.1), at(0.9)};
}

// Multiply-adds of the own register tile on operands in the first level cache.
double f32_peak_gflops(const DeviceInfo& info) {
  const halftone::backend::cpu::VectorOps* ops = halftone::backend::cpu::vector_ops(info);
  if (ops == nullptr) return 0.0;
  constexpr int64_t kDepth = 128;
  constexpr int kRounds = 20'000;
  const auto& tile = ops->matrix_tile;
  double best = 0.0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const double start = now();
#pragma omp parallel num_threads(info.num_units)
    {
      const std::vector<float> a(static_cast<size_t>(tile.rows * kDepth), 1.0F);
      const std::vector<float> b(static_cast<size_t>(tile.cols * kDepth), 1.0F);
      std::vector<float> c(static_cast<size_t>(tile.rows * tile.cols));
      for (int i = 0; i < kRounds; ++i) {
        tile.multiply(a.data(), tile.rows, b.data(), kDepth, c.data(), tile.rows, false);
      }
    }
    const double flops = 2.0 * static_cast<double>(tile.rows * tile.cols * kDepth) * kRounds;
    best = std::max(best, flops * info.num_units / (now() - start) / 1e9);
  }
  return best;
}

// The same for products of panels, of int8 or bf16; 0 where there is no code for them.
double panel_peak_gflops(const DeviceInfo& info, bool integers) {
  using namespace halftone::backend::cpu;
  const PanelOps* ops = panel_ops(info);
  if (ops == nullptr) return 0.0;
  const auto multiply = integers ? ops->multiply_i8[0] : ops->multiply_bf16[0];
  if (multiply == nullptr) return 0.0;
  constexpr int64_t kSteps = 8;  // 32 KiB of operands
  constexpr int kRounds = 10'000;
  const int64_t depth = kSteps * kStepBytes / (integers ? 1 : 2);
  double best = 0.0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const double start = now();
#pragma omp parallel num_threads(info.num_units)
    {
      // Tensors are aligned to cache lines, as operands of kernels are.
      const Tensor rows = Tensor::zeros({DType::kU8, {2 * kPanelRows * kSteps * kStepBytes}});
      const Tensor panel = Tensor::zeros({DType::kU8, {2 * kSteps * kPanelTileBytes}});
      Tensor sums({DType::kF32, {kPanelSums}});
      constexpr int64_t kRowBytes = kSteps * kStepBytes;
      const LeftTap taps[2] = {{rows.data(), kRowBytes},
                               {rows.data() + kPanelRows * kRowBytes, kRowBytes}};
      const LeftTiles left{{&taps[0], &taps[1]}, 1, kSteps};
      ops->begin();
      for (int i = 0; i < kRounds; ++i) multiply(left, panel.data(), sums.data(), {});
      ops->end();
    }
    const double flops = 2.0 * static_cast<double>(kPanelSums * depth) * kRounds;
    best = std::max(best, flops * info.num_units / (now() - start) / 1e9);
  }
  return best;
}

std::string shape_name(std::initializer_list<int64_t> dims) { return to_string(Shape(dims)); }

class Shots {
 public:
  explicit Shots(std::string model, DType dtype) : model_(std::move(model)), dtype_(dtype) {}

  void linear(int count, int64_t m, int64_t n, int64_t k, bool geglu = false) {
    graph::Linear op;
    op.geglu = geglu;
    if (dtype_ == DType::kI8) op.out = DType::kBF16;
    add(count, fmt::format("linear {}x{}x{}{}", m, n, k, geglu ? " geglu" : ""), op,
        {{Role::kX, {1, m, k}}, {Role::kWeight, {n, k}}, {Role::kBias, {n}}},
        2.0 * static_cast<double>(m * n * k));
  }
  void conv(int count, int64_t size, int64_t in, int64_t out, int64_t kernel = 3,
            int64_t stride = 1) {
    graph::Conv2d op{stride, kernel / 2, kernel / 2, Activation::kNone};
    if (dtype_ == DType::kI8) op.out = DType::kBF16;
    add(count,
        fmt::format("conv {}x{} {}x{} {}->{} /{}", kernel, kernel, size, size, in, out, stride), op,
        {{Role::kX, {1, size, size, in}},
         {Role::kWeight, {out, kernel, kernel, in}},
         {Role::kBias, {out}}},
        2.0 * static_cast<double>(size / stride * (size / stride) * in * out * kernel * kernel));
  }
  void attention(int count, int64_t heads, int64_t queries, int64_t keys, int64_t width) {
    const graph::Attention op{heads, 0.125, false};
    add(count, fmt::format("attention {}x{}x{} d{}", heads, queries, keys, width), op,
        {{Role::kQ, {1, queries, heads * width}},
         {Role::kK, {1, keys, heads * width}},
         {Role::kV, {1, keys, heads * width}}},
        4.0 * static_cast<double>(heads * queries * keys * width));
  }
  // In int8: of bf16 values, to codes.
  void group_norm(int count, int64_t size, int64_t channels) {
    graph::GroupNorm op{32, 1e-5, Activation::kSilu};
    const bool codes = dtype_ == DType::kI8;
    const DType type = codes ? DType::kBF16 : dtype_;
    if (codes) op.out = DType::kI8;
    Shot shot{model_,
              "group_norm " + shape_name({size, size, channels}),
              op,
              {{Role::kX, {type, {1, size, size, channels}}},
               {Role::kGamma, {type, {channels}}},
               {Role::kBeta, {type, {channels}}}},
              count,
              10.0 * static_cast<double>(size * size * channels)};
    if (codes) shot.inputs.push_back({Role::kYScale, {DType::kF32, {1}}});
    shots_.push_back(std::move(shot));
  }
  void layer_norm(int count, int64_t rows, int64_t channels) {
    add(count, "layer_norm " + shape_name({rows, channels}), graph::LayerNorm{},
        {{Role::kX, {1, rows, channels}}, {Role::kGamma, {channels}}, {Role::kBeta, {channels}}},
        8.0 * static_cast<double>(rows * channels));
  }
  void elementwise(int count, int64_t rows, int64_t channels) {
    const Shape shape{1, rows, channels};
    add(count, "add " + to_string(shape), graph::Add{}, {{Role::kX, shape}, {Role::kX, shape}},
        static_cast<double>(rows * channels));
    add(count, "concat " + to_string(shape), graph::Concat{-1},
        {{Role::kX, shape}, {Role::kX, shape}}, 0.0);
    add(count, "silu " + to_string(shape), graph::Unary{}, {{Role::kX, shape}},
        static_cast<double>(rows * channels));
  }
  std::vector<Shot> take() { return std::move(shots_); }

 private:
  void add(int count, std::string name, OpAttrs attrs,
           const std::vector<std::pair<Role, Shape>>& inputs, double flops) {
    Shot shot{model_, std::move(name), std::move(attrs), {}, count, flops};
    for (const auto& [role, shape] : inputs) {
      const bool around = dtype_ == DType::kI8 && role != Role::kX && role != Role::kWeight;
      shot.inputs.push_back({role, {around ? DType::kBF16 : dtype_, shape}});
      if (dtype_ != DType::kI8 || around) continue;
      const bool x = role == Role::kX;
      shot.inputs.push_back({x ? Role::kXScale : Role::kWScale, {DType::kF32, {x ? 1 : shape[0]}}});
    }
    shots_.push_back(std::move(shot));
  }
  std::string model_;
  DType dtype_;
  std::vector<Shot> shots_;
};

// The UNet at a 64x64 latent, one image without guidance: an eighth of the rows of SDXL at 1024
// with a batch of two, and the VAE decoder at 512.
std::vector<Shot> turbo(DType dtype) {
  Shots s(fmt::format("turbo-512 {}", to_string(dtype)), dtype);
  s.linear(60, 256, 10240, 1280, true);
  s.linear(60, 256, 3840, 1280);
  s.linear(192, 256, 1280, 1280);
  s.linear(60, 256, 1280, 5120);
  s.linear(10, 1024, 5120, 640, true);
  s.linear(10, 1024, 1920, 640);
  s.linear(40, 1024, 640, 640);
  s.linear(10, 1024, 640, 2560);
  s.linear(60, 77, 2560, 2048);
  s.linear(10, 1, 1280, 1280);
  s.conv(10, 16, 1280, 1280);
  s.conv(2, 16, 2560, 1280);
  s.conv(6, 32, 640, 640);
  s.conv(1, 32, 1920, 640);
  s.conv(7, 64, 320, 320);
  s.conv(2, 64, 640, 320);
  s.conv(1, 64, 4, 320);
  s.conv(1, 64, 320, 4);
  s.conv(1, 64, 320, 320, 3, 2);
  s.conv(2, 16, 2560, 1280, 1);
  s.conv(10, 64, 512, 512);
  s.conv(7, 128, 512, 512);
  s.conv(5, 256, 256, 256);
  s.conv(5, 512, 128, 128);
  s.group_norm(14, 64, 320);
  s.group_norm(12, 32, 640);
  s.group_norm(20, 16, 1280);
  s.group_norm(6, 256, 256);
  s.group_norm(6, 512, 128);
  if (dtype == DType::kI8) return s.take();
  s.attention(10, 10, 1024, 1024, 64);
  s.attention(60, 20, 256, 256, 64);
  s.attention(10, 10, 1024, 77, 64);
  s.attention(60, 20, 256, 77, 64);
  s.attention(1, 1, 4096, 4096, 512);
  s.layer_norm(180, 256, 1280);
  s.layer_norm(30, 1024, 640);
  s.elementwise(3, 4096, 320);
  return s.take();
}

// The embedded model at 256x256 (a 32x32 latent).
std::vector<Shot> emoji(DType dtype) {
  Shots s(fmt::format("emoji-256 {}", to_string(dtype)), dtype);
  s.conv(8, 32, 64, 64);
  s.conv(8, 16, 128, 128);
  s.conv(8, 8, 128, 128);
  s.conv(1, 32, 4, 64);
  s.conv(2, 256, 64, 64);
  s.linear(20, 256, 128, 128);
  s.linear(10, 256, 1024, 128, true);
  s.linear(10, 256, 128, 512);
  s.linear(20, 64, 128, 128);
  s.attention(5, 2, 256, 256, 64);
  s.attention(5, 2, 256, 77, 64);
  s.group_norm(8, 32, 64);
  s.layer_norm(15, 256, 128);
  s.elementwise(3, 1024, 64);
  return s.take();
}

// Memory and launch of one kernel on one shot.
class Bound {
 public:
  Bound(const Kernel& kernel, const DeviceInfo& info, const Shot& shot, const TensorType& out)
      : outputs_{{Role::kY, out}}, y_(out) {
    const OpDesc desc{shot.attrs, shot.inputs, outputs_};
    const Config config = kernel.configs ? kernel.configs(desc, info).front() : Config{};
    std::vector<TensorView> views;
    for (const TypedOperand& input : shot.inputs) {
      operands_.push_back(random(input.type));
      views.push_back(operands_.back().view());
      const size_t packed = kernel.packed_bytes ? kernel.packed_bytes(desc, info, config) : 0;
      if (input.role != Role::kWeight || packed == 0) continue;
      operands_.emplace_back(TensorType{DType::kU8, {static_cast<int64_t>(packed)}});
      kernel.pack(desc, info, config, views.back(), operands_.back().data());
      views.back().data = operands_.back().data();
    }
    const size_t workspace =
        kernel.workspace_bytes ? kernel.workspace_bytes(desc, info, config) : 0;
    operands_.emplace_back(TensorType{DType::kU8, {static_cast<int64_t>(workspace)}});
    const std::vector<TensorView> outputs{y_.view()};
    const double start = now();
    launch_ = kernel.prepare(desc, info, config, {views, outputs, operands_.back().data()});
    prepare_seconds_ = now() - start;
  }
  void run(halftone::backend::Stream& stream) const { launch_->enqueue(stream); }
  [[nodiscard]] double prepare_seconds() const { return prepare_seconds_; }

 private:
  static Tensor random(const TensorType& type) {
    static std::mt19937 generator(7);
    if (type.dtype == DType::kI8) {
      Tensor codes(type);
      for (int8_t& v : codes.values<int8_t>()) v = static_cast<int8_t>(generator());
      return codes;
    }
    Tensor values({DType::kF32, type.shape});
    for (float& v : values.values<float>()) {
      v = static_cast<float>(generator() % 2001) * 1e-3F - 1.0F;
    }
    return type.dtype == DType::kF32 ? std::move(values) : values.to(type.dtype);
  }

  std::vector<TypedOperand> outputs_;
  std::vector<Tensor> operands_;
  Tensor y_;
  std::unique_ptr<halftone::backend::Launch> launch_;
  double prepare_seconds_ = 0.0;
};

class Runner {
 public:
  explicit Runner(const Options& options)
      : options_(options),
        device_(halftone::backend::cpu::create_cpu_device({options.threads, {}})) {
    stream_ = device_->create_stream();
    if (!options.json.empty()) json_.open(options.json);
    peak_ = f32_peak_gflops(device_->info());
    fmt::print("{}, {} threads, f32 multiply-add peak {:.0f} GFLOP/s\n", device_->info().arch,
               device_->info().num_units, peak_);
    if (device_->info().has("amx_bf16")) bf16_peak_ = panel_peak_gflops(device_->info(), false);
    i8_peak_ = panel_peak_gflops(device_->info(), true);
    fmt::print("peak of products in the first level cache: bf16 {:.0f}, i8 {:.0f} GFLOP/s\n",
               bf16_peak_, i8_peak_);
    fmt::print("{:<20} {:<36} {:<28} {:>9} {:>9} {:>9} {:>8} {:>6} {:>9}\n", "model", "op",
               "kernel", "median us", "p10", "p90", "GFLOP/s", "peak%", "total ms");
  }

  void run(const std::vector<Shot>& shots) {
    for (const Shot& shot : shots) {
      const std::string label = shot.model + " " + shot.name;
      if (label.find(options_.filter) == std::string::npos) continue;
      const TensorType out = infer_types(shot.attrs, shot.inputs).front();
      const Kernel& best = choose(shot, out);
      if (!options_.all) {
        report(shot, out, best);
        continue;
      }
      const std::vector<TypedOperand> outputs{{Role::kY, out}};
      for (const Kernel* kernel : device_->kernels()) {
        if (kernel->op != graph::kind_of(shot.attrs) || kernel->name.ends_with(".reference"))
          continue;
        if (kernel->supports({shot.attrs, shot.inputs, outputs}, device_->info()).ok) {
          report(shot, out, *kernel);
        }
      }
    }
  }

  void print_totals() const {
    for (const auto& [model, seconds] : totals_) {
      fmt::print("{:<20} all of the above, each as often as it runs: {:.1f} ms\n", model,
                 seconds * 1e3);
    }
  }

 private:
  const Kernel& choose(const Shot& shot, const TensorType& out) const {
    const std::vector<TypedOperand> outputs{{Role::kY, out}};
    for (const Kernel* kernel : device_->kernels()) {
      if (kernel->op != graph::kind_of(shot.attrs)) continue;
      if (kernel->supports({shot.attrs, shot.inputs, outputs}, device_->info()).ok) return *kernel;
    }
    throw Error(Errc::kInternal, fmt::format("no kernel for {}", shot.name));
  }

  void report(const Shot& shot, const TensorType& out, const Kernel& kernel) {
    const Bound bound(kernel, device_->info(), shot, out);
    const Times t = measure(options_.repeats, [&] { bound.run(*stream_); });
    const double gflops = shot.flops / t.median / 1e9;
    const bool bf16 = out.dtype == DType::kBF16 && bf16_peak_ > 0.0;
    const bool i8 = shot.inputs.front().type.dtype == DType::kI8;
    const double share = gflops / (i8 ? i8_peak_ : bf16 ? bf16_peak_ : peak_);
    totals_[shot.model] += t.median * shot.count;
    fmt::print("{:<20} {:<36} {:<28} {:>9.1f} {:>9.1f} {:>9.1f} {:>8.1f} {:>6.1f} {:>9.2f}\n",
               shot.model, shot.name, kernel.name, t.median * 1e6, t.p10 * 1e6, t.p90 * 1e6, gflops,
               share * 100, t.median * shot.count * 1e3);
    std::fflush(stdout);
    if (!json_.is_open()) return;
    json_ << fmt::format(
                 R"({{"model":"{}","op":"{}","kernel":"{}","arch":"{}","threads":{},"count":{},)"
                 R"("median_us":{:.2f},"p10_us":{:.2f},"p90_us":{:.2f},"gflops":{:.2f},)"
                 R"("peak_share":{:.4f},"prepare_ms":{:.2f},{}}})",
                 shot.model, shot.name, kernel.name, device_->info().arch,
                 device_->info().num_units, shot.count, t.median * 1e6, t.p10 * 1e6, t.p90 * 1e6,
                 gflops, share, bound.prepare_seconds() * 1e3, halftone::bench::build_members())
          << '\n';
  }

  Options options_;
  std::unique_ptr<halftone::backend::Device> device_;
  std::unique_ptr<halftone::backend::Stream> stream_;
  std::ofstream json_;
  double peak_ = 0.0, bf16_peak_ = 0.0, i8_peak_ = 0.0;
  std::map<std::string, double> totals_;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) throw Error(Errc::kInvalidArgument, fmt::format("{} wants a value", flag));
      return argv[++i];
    };
    if (flag == "--filter") {
      options.filter = value();
    } else if (flag == "--json") {
      options.json = value();
    } else if (flag == "--threads") {
      options.threads = std::stoi(value());
    } else if (flag == "--repeats") {
      options.repeats = std::max(1, std::stoi(value()));
    } else if (flag == "--all") {
      options.all = true;
    } else {
      throw Error(Errc::kInvalidArgument, fmt::format("unknown flag {}", flag));
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Runner runner(parse(argc, argv));
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      runner.run(turbo(dtype));
      runner.run(emoji(dtype));
    }
    runner.run(turbo(DType::kI8));
    runner.print_totals();
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_kernels: {}\n", error.what());
    return 1;
  }
  return 0;
}
