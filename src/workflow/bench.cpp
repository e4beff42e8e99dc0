// Generator::bench: whole images, repeatedly, with the time per operator class.
#include <algorithm>
#include <map>

#include "backend/power_watch.h"
#include "metrics/summary.h"
#include "pipeline/clock.h"
#include "workflow/calibrate.h"
#include "workflow/generator.h"
#include "workflow/kernel_bench.h"
#include "workflow/power.h"

namespace halftone::workflow {
namespace {

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {.median = metrics::quantile(values, 0.5),
          .p10 = metrics::quantile(values, 0.1),
          .p90 = metrics::quantile(values, 0.9),
          .p99 = metrics::quantile(values, 0.99),
          .min = values.front(),
          .max = values.back()};
}

using OpKey = std::pair<std::string, std::string>;  // op, kernel
struct OpSum {
  uint64_t calls = 0;
  double ms = 0, flop = 0, bytes = 0, roof_ms = 0;
};
using OpSums = std::map<OpKey, OpSum>;

// What a call moves and multiplies at least.
struct Traffic {
  double bytes = 0;
  DType dtype = DType::kF32;  // of its first operand
};
using TrafficMap = std::map<std::pair<std::string, std::string>, Traffic>;  // component, call

TrafficMap traffic_of(const pipeline::Components& components) {
  TrafficMap result;
  for (const auto& use : components.last_uses()) {
    for (const runtime::Profile& profile : use.plan->profiles) {
      for (const auto& stage : profile.stages) {
        for (const runtime::Call& call : stage) {
          Traffic traffic;
          const auto add = [&](runtime::SlotId slot) {
            traffic.bytes += static_cast<double>(profile.slots[slot].type.num_bytes());
          };
          for (const runtime::CallOperand& operand : call.inputs) add(operand.slot);
          for (const runtime::SlotId slot : call.outputs) add(slot);
          if (!call.inputs.empty()) {
            traffic.dtype = profile.slots[call.inputs.front().slot].type.dtype;
          }
          result[{use.component, call.name}] = traffic;
        }
      }
    }
  }
  return result;
}

// The element types that products are taken of, for the peaks.
std::vector<DType> multiplied_types(const TrafficMap& traffic) {
  std::vector<DType> types;
  for (const auto& [key, one] : traffic) {
    const bool counts = one.dtype == DType::kI8 || is_floating(one.dtype);
    if (counts && std::ranges::find(types, one.dtype) == types.end()) types.push_back(one.dtype);
  }
  return types;
}

using Times = std::map<std::string, std::vector<runtime::CallTime>>;  // by component

OpSums sum_ops(const Times& all_times, const TrafficMap& traffic, const Peaks& peaks) {
  OpSums sums;
  for (const auto& [component, times] : all_times) {
    for (const runtime::CallTime& time : times) {
      if (time.stage == graph::Rate::kLoad) continue;
      OpSum& sum = sums[{time.op, time.kernel}];
      const auto runs = static_cast<double>(time.runs);
      sum.calls += time.runs;
      sum.ms += time.total_ms;
      sum.flop += time.flop * runs;
      const auto found = traffic.find({component, time.name});
      if (found == traffic.end()) continue;
      const double rate = tflops_of(peaks, to_string(found->second.dtype));
      const double math_ms = rate > 0 ? time.flop / (rate * 1e9) : 0;
      const double move_ms =
          peaks.gbyte_per_second > 0 ? found->second.bytes / (peaks.gbyte_per_second * 1e6) : 0;
      sum.bytes += found->second.bytes * runs;
      sum.roof_ms += std::max(math_ms, move_ms) * runs;
    }
  }
  return sums;
}

std::vector<OpClassTime> per_iteration(const OpSums& before, const OpSums& after, int iterations) {
  std::vector<OpClassTime> ops;
  const double n = iterations;
  for (const auto& [key, sum] : after) {
    const auto found = before.find(key);
    const OpSum base = found == before.end() ? OpSum() : found->second;
    const double ms = (sum.ms - base.ms) / n;
    const double gflop = (sum.flop - base.flop) / n * 1e-9;
    const uint64_t calls = (sum.calls - base.calls) / static_cast<uint64_t>(iterations);
    if (calls == 0) continue;
    ops.push_back({.op = key.first,
                   .kernel = key.second,
                   .calls = calls,
                   .ms = ms,
                   .gflop = gflop,
                   .gflop_per_second = ms > 0 ? gflop / (ms * 1e-3) : 0,
                   .gbyte = (sum.bytes - base.bytes) / n * 1e-9,
                   .roof_ms = (sum.roof_ms - base.roof_ms) / n,
                   .share = ms > 0 ? (sum.roof_ms - base.roof_ms) / n / ms : 0});
  }
  std::sort(ops.begin(), ops.end(),
            [](const OpClassTime& a, const OpClassTime& b) { return a.ms > b.ms; });
  return ops;
}

}  // namespace

// Makes the plans of a request without a cache, then finds them in the cache.
void Generator::time_builds(const GenerateOptions& options, BenchReport& report) {
  if (!options_.plan.empty()) return;  // nothing is built
  const PreparedRequest prepared = prepare(options);
  const ResolvedRequest& r = prepared.resolved;
  const pipeline::Pipeline& pipe = pipeline(profiled_);
  const auto wanted =
      pipe.wanted(r.width, r.height, r.batch_size, r.cfg, options.output_type == OutputType::kImage,
                  !r.init_image.empty(), pipe.texts_at_once(r.cfg, r.has_negative_prompt));
  // Without a cache there is no record in it: named, it is found.
  QuantizationOptions quantization = options_.quantization;
  if (may_need_record(options_)) {
    quantization.ranges = default_record(model_, options_.cache_dir).string();
  }
  const PlanMaker uncached(model_, device_,
                           {.precision = options_.precision,
                            .vae_precision = options_.vae_precision,
                            .cache_dir = {},
                            .plan = {},
                            .quantization = quantization,
                            .disabled_passes = options_.disabled_passes,
                            .disabled_kernels = options_.disabled_kernels,
                            .logger = options_.logger});
  const auto time = [&](const PlanMaker& maker) {
    const pipeline::Stopwatch clock;
    for (const auto& item : wanted) static_cast<void>(maker.get(item.component, item.shape));
    return clock.ms();
  };
  report.build_cold_ms = time(uncached);
  if (options_.cache_dir.empty()) return;
  static_cast<void>(time(plans_));  // fills the cache
  report.build_warm_ms = time(plans_);
}

BenchReport Generator::bench(const BenchOptions& options) {
  BenchReport report;
  report.warmup = options.warmup;
  report.iterations = options.iterations;
  time_builds(options.generate, report);
  pipeline::Pipeline& pipe = pipeline(options.profile);
  const ImageSink ignore = [](Image&&) {};
  const auto meter = open_power_meter(device_, options_.logger);  // takes a while itself
  for (int i = 0; i < options.warmup; ++i) {
    const GenerateReport run = generate(options.generate, ignore);
    report.warmup_build_ms += run.build_ms + run.load_ms;
  }
  const Times before = pipe.components().times();
  std::vector<double> totals;
  std::map<std::string, std::vector<double>> modules;
  int64_t num_images = 0;
  backend::PowerWatch watch(meter.get());
  for (int i = 0; i < options.iterations; ++i) {
    report.last = generate(options.generate, ignore);
    num_images += report.last.num_images;
    totals.push_back(report.last.pipeline_ms);
    for (const ModuleTime& module : report.last.modules) modules[module.name].push_back(module.ms);
  }
  std::string missing;
  report.power = watch.stop(num_images, missing);
  log_missing_power(options_.logger, LogLevel::kInfo, missing);
  report.total_ms = spread_of(std::move(totals));
  for (const ModuleTime& module : report.last.modules) {  // in the order of the run
    report.modules.emplace_back(module.name, spread_of(modules[module.name]));
  }
  report.images_per_second = report.last.num_images / (report.total_ms.median * 1e-3);
  for (size_t i = 0; i < report.modules.size(); ++i) {
    const auto& [name, spread] = report.modules[i];
    if (name != pipe.family().denoiser_label || spread.median <= 0) continue;
    report.steps_per_second = report.last.modules[i].runs / (spread.median * 1e-3);
  }
  if (options.profile) {
    const Times after = pipe.components().times();
    const TrafficMap traffic = traffic_of(pipe.components());
    // Last, as it takes memory of its own.
    report.peaks = peaks_of(device_, multiplied_types(traffic));
    report.ops = per_iteration(sum_ops(before, traffic, report.peaks),
                               sum_ops(after, traffic, report.peaks), options.iterations);
  }
  return report;
}

}  // namespace halftone::workflow
