// One NVIDIA GPU as a backend device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace halftone::backend::cuda {

struct CudaOptions {
  int ordinal = 0;  // among the devices that the driver shows
  // Where measured choices of library algorithms are kept; empty = nowhere.
  std::string tuning_file;
  // Whether a kernel may start while its predecessor ends (backend/cuda/launch.h), where the device
  // can. No result depends on it.
  bool overlap_launches = true;
};

// Throws kDeviceLost with a reason and a remedy: no driver, no device, a driver older than the
// runtime, an ordinal that does not exist. One device a process.
[[nodiscard]] std::unique_ptr<Device> create_cuda_device(const CudaOptions& options = {});

// Facts of every device that could be created; empty when there is none. `reason` (optional) is
// then why.
[[nodiscard]] std::vector<DeviceInfo> list_cuda_devices(std::string* reason = nullptr);

// Memory that nobody holds, now; 0 when the driver does not say.
[[nodiscard]] uint64_t free_bytes(int ordinal);

// Why this build cannot use a device with these facts; empty when it can.
[[nodiscard]] std::string unusable_because(const DeviceInfo& info);

// What the driver calls the device: "NVIDIA H200".
[[nodiscard]] std::string model_name(int ordinal);

}  // namespace halftone::backend::cuda
