// The one place that knows which backends are linked in.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace halftone::api {

struct DeviceOptions {
  int threads = 0;            // CPU; 0 = every core
  std::string cache_dir;      // measured choices are kept there; empty = nowhere
  uint64_t memory_limit = 0;  // bytes; 0 = none
  bool overlap_launches = true;
};

// "auto" (choose_device), "cpu", "cuda" or "cuda:N". Throws kInvalidArgument for a name that means
// nothing, kDeviceLost for a device that this build or machine does not have.
[[nodiscard]] std::unique_ptr<backend::Device> create_device(const std::string& name,
                                                             const DeviceOptions& options);

struct DeviceModel {
  backend::DeviceInfo info;
  std::string model;        // "NVIDIA H200"
  uint64_t free_bytes = 0;  // now
  std::string problem;      // why this build cannot use it; empty when it can
};

struct DeviceChoice {
  std::string name;    // "cuda:0", "cpu"
  std::string reason;  // one line: what was taken and why the others were not
};
// What "auto" means: of the devices that this build has code for, of compute capability 8.0 or
// newer and with at least kLeastFreeBytes free, the one with the most free memory; else the CPU.
// `no_devices` says why `found` is empty.
inline constexpr uint64_t kLeastFreeBytes = uint64_t{2} << 30;
[[nodiscard]] DeviceChoice choose_device(std::span<const DeviceModel> found,
                                         const std::string& no_devices);
// Of this machine.
[[nodiscard]] DeviceChoice choose_device();

// Devices beside the CPU; when there is none, `reason` says why.
[[nodiscard]] std::vector<DeviceModel> accelerators(std::string& reason);

// "cpu, cuda": what this build holds.
[[nodiscard]] std::string_view backend_names();
// Libraries that the kernels of this build use, with their versions ("oneDNN 2.6.3"), and the GPUs
// that it has code for.
[[nodiscard]] std::vector<std::string> libraries();

}  // namespace halftone::api
