#include "summary.h"

#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace halftone::cli {
namespace {

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

std::string memory_lines(const GenerateReport& report) {
  const MemoryUse& memory = report.memory;
  std::string text =
      fmt::format("Memory: static {:.1f} MB, dynamic {:.1f} MB, peak {:.1f} MB\n",
                  mib(memory.static_bytes), mib(memory.dynamic_bytes), mib(memory.peak_rss_bytes));
  std::vector<std::string> parts;
  for (const ComponentMemory& one : report.component_memory) {
    parts.push_back(fmt::format("{} {:.1f} + {:.1f}", one.component, mib(one.static_bytes),
                                mib(one.dynamic_bytes)));
  }
  if (!parts.empty()) {
    text += fmt::format("Of it, static + dynamic, MB: {}\n", fmt::join(parts, ", "));
  }
  return text + fmt::format("Device memory: peak {:.1f} MB\n", mib(memory.device_peak_bytes));
}

std::string row(std::string_view name, double ms) {
  return fmt::format("| {:^15} | {:>9.2f} ms |\n", name, ms);
}
constexpr std::string_view kRule = "|-----------------|--------------|\n";

}  // namespace

std::string plan_lines(const std::vector<PlanUse>& plans) {
  std::string text;
  for (const PlanUse& plan : plans) {
    text += fmt::format("plan {:<15} {} {} ({}{})\n", plan.component, plan.precision,
                        plan.fingerprint.substr(0, 8), plan.origin,
                        plan.build_ms > 0 ? fmt::format(", {:.0f} ms", plan.build_ms) : "");
  }
  return text;
}

std::string check_table(const std::vector<NodeCheck>& checks) {
  constexpr size_t kShown = 20;
  std::string text = fmt::format("{:>11} {:>11} {:>9}  {:<34} {}\n", "relative L2", "max abs",
                                 "limit", "kernel", "node");
  size_t wrong = 0;
  for (size_t i = 0; i < checks.size(); ++i) {
    const NodeCheck& check = checks[i];
    if (!check.ok) ++wrong;
    if (i >= kShown && check.ok) continue;
    text += fmt::format("{:>11.3g} {:>11.3g} {:>9.1g}  {:<34} {}/{}{}\n", check.relative_l2,
                        check.max_abs, check.limit, check.kernel, check.component, check.node,
                        check.ok ? "" : "  WRONG");
  }
  return text + fmt::format("Reference check: {} nodes, {} wrong\n", checks.size(), wrong);
}

std::string summary(const GenerateReport& report) {
  std::string text;
  for (const LoraUse& lora : report.request.loras) {
    text += fmt::format("lora {} weight {}, {} layers\n", lora.file, lora.weight, lora.num_modules);
  }
  if (!report.request.device_reason.empty()) {
    text += fmt::format("device {} ({})\n", report.request.device, report.request.device_reason);
  }
  text += plan_lines(report.plans);
  text += fmt::format("| {:^15} | {:^12} |\n", "Module", "Latency");
  text += kRule;
  for (const ModuleTime& module : report.modules) {
    text += row(module.runs > 1 ? fmt::format("{} x {}", module.name, module.runs) : module.name,
                module.ms);
  }
  text += kRule;
  text += row("Pipeline", report.pipeline_ms);
  text += kRule;
  const double seconds = report.pipeline_ms / 1000.0;
  text +=
      fmt::format("Throughput: {:.5f} image/s\n", seconds > 0 ? report.num_images / seconds : 0.0);
  text += fmt::format("Iteration speed: {:.3f} it/s\n", report.steps_per_second);
  text += fmt::format("E2E: {:.3f} s (load {:.3f} s, build {:.3f} s)\n", report.total_ms / 1000.0,
                      report.load_ms / 1000.0, report.build_ms / 1000.0);
  text += memory_lines(report);
  if (!report.checks.empty()) text += check_table(report.checks);
  text += "Seeds:";
  for (const uint64_t seed : report.seeds) text += fmt::format(" {}", seed);
  return text + "\n";
}

std::string power_words(const PowerUse& power) {
  std::vector<std::string> words;
  if (power.power_w) {
    words.push_back(power.power_limit_w
                        ? fmt::format("{:.0f} W of {:.0f}", *power.power_w, *power.power_limit_w)
                        : fmt::format("{:.0f} W", *power.power_w));
  } else if (power.power_limit_w) {
    words.push_back(fmt::format("limit {:.0f} W", *power.power_limit_w));
  }
  if (power.sm_clock_mhz) words.push_back(fmt::format("SM clock {:.0f} MHz", *power.sm_clock_mhz));
  if (power.energy_j_per_image) {
    words.push_back(fmt::format("{:.2f} J/image", *power.energy_j_per_image));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

std::string energy_row(const PowerUse& a, const PowerUse& b) {
  if (!a.energy_j_per_image || !b.energy_j_per_image) return {};
  return fmt::format("| {:^15} | {:>12.2f} J | {:>12.2f} J | {:>7.2f}x |\n", "Energy/image",
                     *a.energy_j_per_image, *b.energy_j_per_image,
                     *a.energy_j_per_image / *b.energy_j_per_image);
}

std::string bench_table(const BenchReport& report) {
  std::string text = plan_lines(report.last.plans);
  text +=
      fmt::format("{} x {}, {} steps, batch {}, {} iterations after {} warm-up\n",
                  report.last.request.width, report.last.request.height, report.last.request.steps,
                  report.last.request.batch_size, report.iterations, report.warmup);
  const auto line = [&](std::string_view name, const Spread& spread) {
    text += fmt::format("| {:^15} | {:>9.2f} ms | {:>9.2f} ms | {:>9.2f} ms | {:>9.2f} ms |\n",
                        name, spread.median, spread.p10, spread.p90, spread.p99);
  };
  text += fmt::format("| {:^15} | {:^12} | {:^12} | {:^12} | {:^12} |\n", "Module", "median", "p10",
                      "p90", "p99");
  text += "|-----------------|--------------|--------------|--------------|--------------|\n";
  for (const auto& [name, spread] : report.modules) line(name, spread);
  line("Pipeline", report.total_ms);
  text += fmt::format("Throughput: {:.5f} image/s\nIteration speed: {:.3f} it/s\n",
                      report.images_per_second, report.steps_per_second);
  const std::string power = power_words(report.power);
  if (!power.empty()) text += fmt::format("Power: {}\n", power);
  if (!report.ops.empty()) {
    text += fmt::format("\n{:<14} {:<34} {:>7} {:>11} {:>10} {:>10} {:>8} {:>6}\n", "op", "kernel",
                        "calls", "ms", "GFLOP", "GFLOP/s", "GB", "roof");
    for (const OpClassTime& op : report.ops) {
      text += fmt::format("{:<14} {:<34} {:>7} {:>11.2f} {:>10.2f} {:>10.1f} {:>8.3f} {:>5.0f}%\n",
                          op.op, op.kernel, op.calls, op.ms, op.gflop, op.gflop_per_second,
                          op.gbyte, 100 * op.share);
    }
    text += fmt::format("Roof: share of the least time that the peaks allow ({}: {:.0f} GB/s",
                        report.peaks.source, report.peaks.gbyte_per_second);
    for (const auto& [dtype, tflops] : report.peaks.tflops) {
      text += fmt::format(", {} {:.3g} TFLOP/s", dtype, tflops);
    }
    text += ")\n";
  }
  text += fmt::format("\nBuild: cold {:.3f} s, ", report.build_cold_ms / 1000.0);
  text += report.build_warm_ms > 0
              ? fmt::format("warm {:.3f} s (from the cache)\n", report.build_warm_ms / 1000.0)
              : std::string("warm not measured (no cache)\n");
  text += fmt::format("Warm-up with build and load: {:.3f} s\n", report.warmup_build_ms / 1000.0);
  text += memory_lines(report.last);
  if (!report.last.checks.empty()) text += check_table(report.last.checks);
  return text;
}

}  // namespace halftone::cli
