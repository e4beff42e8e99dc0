#include "halftone/device.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "halftone/options.h"

#include "api/backends.h"
#include "workflow/plans.h"
#include "workflow/report_json.h"

namespace halftone {
namespace {

// "model name" of /proc/cpuinfo, which has no size of its own and is read line by line.
std::string processor_name() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/proc/cpuinfo", "r"),
                                                             std::fclose);
  if (!file) return "unknown";
  std::array<char, 512> line{};
  while (std::fgets(line.data(), static_cast<int>(line.size()), file.get()) != nullptr) {
    std::string_view text(line.data());
    if (!text.starts_with("model name")) continue;
    text.remove_prefix(std::min(text.find(':'), text.size() - 1) + 1);
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    return std::string(text);
  }
  return "unknown";
}

}  // namespace

std::vector<DeviceEntry> list_devices() {
  const std::unique_ptr<backend::Device> cpu = api::create_device("cpu", {});
  const backend::DeviceInfo& info = cpu->info();
  DeviceEntry entry{.name = info.name,
                    .model = processor_name(),
                    .arch = info.arch,
                    .num_units = info.num_units,
                    .memory_bytes = info.memory_bytes,
                    .features = info.features,
                    .precisions = {}};
  const Precision first = workflow::resolve_precision(Precision::kAuto, info);
  const Precision other = first == Precision::kF32 ? Precision::kBF16 : Precision::kF32;
  for (const Precision precision : {first, other}) {
    entry.precisions.emplace_back(to_string(precision));
  }
  std::vector<DeviceEntry> entries{entry};
  std::string reason;
  for (const api::DeviceModel& found : api::accelerators(reason)) {
    entries.push_back({.name = found.info.name,
                       .model = found.model,
                       .arch = found.info.arch,
                       .num_units = found.info.num_units,
                       .memory_bytes = found.info.memory_bytes,
                       .features = found.info.features,
                       .precisions = {"fp16", "bf16", "fp32"}});
  }
  return entries;
}

Version version() {
  std::vector<std::string> libraries = {fmt::format("backends: {}", api::backend_names())};
  std::ranges::move(api::libraries(), std::back_inserter(libraries));
  return {.version = HALFTONE_VERSION,
          .commit = std::string(workflow::build_commit()),
          .compiler = fmt::format("compiled by {}", __VERSION__),
          .libraries = std::move(libraries)};
}

}  // namespace halftone
