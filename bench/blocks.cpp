// Times whole blocks of SDXL, compiled as a model's plan is and run by the executor, on any device.
//
//   bench_blocks [--filter TEXT] [--device NAME] [--precision fp32,bf16,fp16] [--batch 1,2]
//                [--threads N] [--repeats N] [--warmup N] [--json FILE]
//
// Shapes are those of SDXL at 1024x1024 (latent 128x128). The text's keys and values and the time
// embedding's projection are computed once, as in a model, and are not part of what is timed.
// Prints a table of median, p10, p90 and GFLOP/s, and one JSON object a line to FILE.
#include "models/blocks.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "halftone/error.h"

#include "api/backends.h"
#include "build_members.h"
#include "compile/compile.h"
#include "metrics/summary.h"
#include "models/unet.h"
#include "runtime/executor.h"

namespace {

using halftone::DType;
using halftone::Errc;
using halftone::Error;
using halftone::Shape;
using halftone::Tensor;
using halftone::TensorType;
using halftone::graph::Rate;
using halftone::models::Builder;
using halftone::models::ValueId;
namespace graph = halftone::graph;
namespace models = halftone::models;
namespace runtime = halftone::runtime;

constexpr int64_t kTimeChannels = 1280;
constexpr int64_t kTextTokens = 77;
constexpr int64_t kTextChannels = 2048;

// Normal numbers that depend on the tensor's name alone; norm scales near one.
class RandomWeights final : public halftone::WeightSource {
 public:
  [[nodiscard]] bool contains(const std::string& /*name*/) const override { return true; }
  [[nodiscard]] TensorType type(const std::string& name) const override {
    throw Error(Errc::kNotFound, fmt::format("{}: made-up weights have no stored type", name));
  }
  void read(const std::string& name, const TensorType& type, std::byte* dst) const override {
    std::minstd_rand generator(static_cast<unsigned>(std::hash<std::string>()(name)) | 1U);
    const bool is_scale = type.shape.rank() == 1 && name.ends_with(".weight");
    const int64_t fan_in = type.shape.num_elements() / std::max<int64_t>(type.shape[0], 1);
    std::normal_distribution<float> normal(
        is_scale ? 1.0F : 0.0F, 1.0F / std::sqrt(static_cast<float>(std::max<int64_t>(fan_in, 1))));
    Tensor values({DType::kF32, type.shape});
    for (float& v : values.values<float>()) v = normal(generator);
    halftone::convert(values.data(), DType::kF32, dst, type.dtype,
                      static_cast<size_t>(type.shape.num_elements()));
  }
};

struct Block {
  std::string_view name;
  int64_t extent, channels_in, channels;
  ValueId (*build)(Builder& b, ValueId x, int64_t channels);
};

ValueId time_input(Builder& b, ValueId x) {
  const int64_t n = b.shape(x)[0];
  return b.silu(b.compute(b.input("time", {DType::kF32, {n, kTimeChannels}}, Rate::kSchedule)));
}

ValueId unet_resnet(Builder& b, ValueId x, int64_t channels) {
  return models::resnet_block(b, {}, x, time_input(b, x), channels);
}

ValueId transformer(Builder& b, ValueId x, int64_t channels) {
  constexpr int64_t kHeadChannels = 64;
  const int64_t n = b.shape(x)[0];
  const ValueId text =
      b.compute(b.input("text", {DType::kF32, {n, kTextTokens, kTextChannels}}, Rate::kPrompt));
  return models::transformer_block(b, models::to_tokens(b, x), text, channels / kHeadChannels);
}

// UpDecoderBlock2D with its upsampler.
ValueId vae_up(Builder& b, ValueId x, int64_t channels) {
  constexpr models::NormConfig kNorm{.groups = 32, .eps = 1e-6};
  for (const std::string_view name : {"0", "1", "2"}) {
    const Builder::Scope scope(b, name);
    x = models::resnet_block(b, kNorm, x, graph::kNoValue, channels);
  }
  const Shape size = b.shape(x);
  return models::upsample_block(b, x, 2 * size[1], 2 * size[2]);
}

constexpr std::array kBlocks = {
    Block{"unet resnet 320 @128", 128, 320, 320, unet_resnet},
    Block{"unet resnet 640 @64", 64, 640, 640, unet_resnet},
    Block{"unet resnet 1280 @32", 32, 1280, 1280, unet_resnet},
    Block{"unet up resnet 2560->1280 @32", 32, 2560, 1280, unet_resnet},
    Block{"unet transformer 640 @64", 64, 640, 640, transformer},
    Block{"unet transformer 1280 @32", 32, 1280, 1280, transformer},
    Block{"vae up 512 @128", 128, 512, 512, vae_up},
    Block{"vae up 512->256 @256", 256, 512, 256, vae_up},
};

struct Options {
  std::string filter, json, device = "cpu";
  std::vector<std::string> precisions = {"fp32", "bf16"}, batches = {"1", "2"};
  int threads = 0, repeats = 10, warmup = 2;
};

DType dtype_of(std::string_view precision) {
  if (precision == "fp32") return DType::kF32;
  if (precision == "bf16") return DType::kBF16;
  if (precision == "fp16") return DType::kF16;
  throw Error(Errc::kInvalidArgument,
              fmt::format("--precision: got '{}', wanted fp32, bf16 or fp16", precision));
}

graph::Graph build(const Block& block, DType dtype, int64_t batch) {
  Builder b("block", dtype);
  const TensorType type{DType::kF32, {batch, block.extent, block.extent, block.channels_in}};
  const ValueId x = b.compute(b.input("x", type, Rate::kStep));
  b.output("y", block.build(b, x, block.channels));
  return b.take();
}

class Runner {
 public:
  explicit Runner(const Options& options)
      : options_(options),
        device_(halftone::api::create_device(options.device,
                                             {.threads = options.threads, .cache_dir = {}})) {
    if (!options.json.empty()) json_.open(options.json);
    fmt::print("{} ({}), {} units\n", device_->info().name, device_->info().arch,
               device_->info().num_units);
    fmt::print("{:<30} {:>9} {:>5} {:>11} {:>10} {:>10} {:>10} {:>10}\n", "block", "precision",
               "batch", "median ms", "p10", "p90", "GFLOP", "GFLOP/s");
  }

  void run() {
    for (const Block& block : kBlocks) {
      if (block.name.find(options_.filter) == std::string_view::npos) continue;
      for (const std::string& precision : options_.precisions) {
        for (const std::string& batch : options_.batches) measure(block, precision, batch);
      }
    }
  }

 private:
  void measure(const Block& block, const std::string& precision, const std::string& batch) {
    auto plan = std::make_shared<runtime::Plan>();
    plan->component = "block";
    plan->profiles.push_back(
        halftone::compile::compile_profile(build(block, dtype_of(precision), std::stoll(batch)), {},
                                           device_->info(), device_->kernels()));
    runtime::Executor executor(plan, 0, *device_, weights_);
    std::minstd_rand generator(7);
    std::normal_distribution<float> normal;
    for (const runtime::Binding& input : plan->profiles.front().inputs) {
      Tensor values(executor.input_type(input.name));
      for (float& v : values.values<float>()) v = normal(generator);
      executor.set_input(input.name, values);
    }
    executor.run_prompt();
    executor.run_schedule(0);
    for (int i = 0; i < options_.warmup; ++i) executor.run_step(0);
    std::vector<double> ms;
    for (int i = 0; i < options_.repeats; ++i) {
      const auto start = std::chrono::steady_clock::now();
      executor.run_step(0);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      ms.push_back(took.count());
    }
    check_finite(executor, block);
    double flop = 0;
    for (const runtime::CallTime& call : executor.times()) {
      if (call.stage == Rate::kStep) flop += call.flop;
    }
    report(block, precision, batch, std::move(ms), flop);
  }

  static void check_finite(const runtime::Executor& executor, const Block& block) {
    const Tensor y = executor.output("y");
    const auto values = y.values<float>();
    if (std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) return;
    throw Error(Errc::kInternal, fmt::format("{}: the result is not finite", block.name));
  }

  void report(const Block& block, const std::string& precision, const std::string& batch,
              std::vector<double> ms, double flop) {
    std::ranges::sort(ms);
    const double median = halftone::metrics::quantile(ms, 0.5);
    const double p10 = halftone::metrics::quantile(ms, 0.1);
    const double p90 = halftone::metrics::quantile(ms, 0.9);
    const double rate = flop / (median * 1e-3) * 1e-9;
    fmt::print("{:<30} {:>9} {:>5} {:>11.3f} {:>10.3f} {:>10.3f} {:>10.2f} {:>10.1f}\n", block.name,
               precision, batch, median, p10, p90, flop * 1e-9, rate);
    std::fflush(stdout);
    if (!json_.is_open()) return;
    json_ << fmt::format(
                 R"({{"schema":"halftone.bench/v1",{},"device":"{}","arch":"{}","units":{},)"
                 R"("workload":"block","block":"{}","precision":"{}","batch":{},"n":{},)"
                 R"("warmup":{},"median_ms":{:.4f},"p10_ms":{:.4f},"p90_ms":{:.4f},)"
                 R"("gflop":{:.3f},"gflop_per_second":{:.1f}}})",
                 halftone::bench::build_members(), device_->info().name, device_->info().arch,
                 device_->info().num_units, block.name, precision, batch, ms.size(),
                 options_.warmup, median, p10, p90, flop * 1e-9, rate)
          << '\n';
  }

  Options options_;
  std::unique_ptr<halftone::backend::Device> device_;
  RandomWeights weights_;
  std::ofstream json_;
};

std::vector<std::string> words(const std::string& list) {
  std::vector<std::string> result;
  for (size_t at = 0; at <= list.size();) {
    const size_t comma = std::min(list.find(',', at), list.size());
    result.push_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  return result;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (i + 1 >= argc) throw Error(Errc::kInvalidArgument, fmt::format("{} wants a value", flag));
    const std::string value = argv[++i];
    if (flag == "--filter") {
      options.filter = value;
    } else if (flag == "--json") {
      options.json = value;
    } else if (flag == "--device") {
      options.device = value;
    } else if (flag == "--precision") {
      options.precisions = words(value);
    } else if (flag == "--batch") {
      options.batches = words(value);
    } else if (flag == "--threads") {
      options.threads = std::stoi(value);
    } else if (flag == "--repeats") {
      options.repeats = std::max(1, std::stoi(value));
    } else if (flag == "--warmup") {
      options.warmup = std::max(0, std::stoi(value));
    } else {
      throw Error(Errc::kInvalidArgument, fmt::format("unknown flag {}", flag));
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Runner(parse(argc, argv)).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_blocks: {}\n", error.what());
    return 1;
  }
  return 0;
}
