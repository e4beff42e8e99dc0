#include "halftone/kernels.h"

#include "api/backends.h"
#include "workflow/kernel_bench.h"
#include "workflow/power.h"
#include "workflow/report_json.h"

namespace halftone {

KernelBenchReport bench_kernels(const KernelBenchOptions& options) {
  const auto device = api::create_device(
      options.device, {.threads = options.threads, .cache_dir = options.cache_dir});
  return workflow::bench_kernels(*device, options);
}

std::string to_json_lines(const KernelBenchReport& report) {
  Json peaks = Json::object();
  for (const auto& [dtype, tflops] : report.peaks.tflops) peaks.set(dtype, tflops);
  Json first = workflow::header("bench");
  first.set("workload", "peaks").set("device", report.device).set("arch", report.arch);
  first.set("source", report.peaks.source).set("tflops", std::move(peaks));
  first.set("gbyte_per_second", report.peaks.gbyte_per_second);
  first.set("batch_size", report.batch_size).set("sustain_s", report.sustain_s);
  std::string text = to_text(first);
  for (const KernelTime& row : report.kernels) {
    Json json = workflow::header("bench");
    json.set("workload", "kernel").set("network", row.model).set("shape", row.shape);
    json.set("dtype", row.dtype).set("kernel", row.kernel).set("calls", row.calls);
    json.set("median_us", row.us).set("p10_us", row.p10_us).set("p90_us", row.p90_us);
    json.set("gflop", row.gflop).set("tflops", row.tflops);
    json.set("gbyte_per_second", row.gbyte_per_second);
    json.set("share", row.share > 0 ? Json(row.share) : Json());
    workflow::set_power(json, row.power);
    json.set("problem", row.problem.empty() ? Json() : Json(row.problem));
    text += '\n';
    text += to_text(json);
  }
  return text;
}

}  // namespace halftone
