// What --device auto takes.
#include <charconv>

#include <fmt/format.h>

#include "api/backends.h"

namespace halftone::api {
namespace {

constexpr int kLeastCapability = 80;

double gib(uint64_t bytes) { return static_cast<double>(bytes) / 1073741824.0; }

// "sm_90" = 90; 0 for other names.
int capability(const std::string& arch) {
  int number = 0;
  if (arch.starts_with("sm_")) {
    std::from_chars(arch.data() + 3, arch.data() + arch.size(), number);
  }
  return number;
}

std::string problem_of(const DeviceModel& device) {
  if (!device.problem.empty()) return device.problem;
  const int number = capability(device.info.arch);
  if (number < kLeastCapability) {
    return fmt::format("has compute capability {}.{}, wanted 8.0 or newer", number / 10,
                       number % 10);
  }
  if (device.free_bytes < kLeastFreeBytes) {
    return fmt::format("{:.1f} GiB of memory are free, wanted {:.1f}", gib(device.free_bytes),
                       gib(kLeastFreeBytes));
  }
  return {};
}

}  // namespace

DeviceChoice choose_device(std::span<const DeviceModel> found, const std::string& no_devices) {
  const DeviceModel* best = nullptr;
  std::string refused;
  for (const DeviceModel& device : found) {
    if (const std::string problem = problem_of(device); !problem.empty()) {
      refused += fmt::format("{}{}: {}", refused.empty() ? "" : "; ", device.info.name, problem);
    } else if (best == nullptr || device.free_bytes > best->free_bytes) {
      best = &device;
    }
  }
  if (best == nullptr) return {"cpu", found.empty() ? no_devices : refused};
  std::string reason = fmt::format("{}, compute capability {}.{}, {:.1f} GiB free", best->model,
                                   capability(best->info.arch) / 10,
                                   capability(best->info.arch) % 10, gib(best->free_bytes));
  if (!refused.empty()) reason += fmt::format(" ({})", refused);
  return {best->info.name, std::move(reason)};
}

}  // namespace halftone::api
