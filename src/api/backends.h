// The one place that knows which backends are linked in.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace halftone::api {

struct DeviceOptions {
  int threads = 0;        // CPU; 0 = every core
  std::string cache_dir;  // measured choices are kept there; empty = nowhere
};

// "auto", "cpu", "cuda" or "cuda:N". Throws kInvalidArgument for a name that means nothing,
// kDeviceLost for a device that this build or machine does not have.
[[nodiscard]] std::unique_ptr<backend::Device> create_device(const std::string& name,
                                                             const DeviceOptions& options);

struct DeviceModel {
  backend::DeviceInfo info;
  std::string model;  // "NVIDIA H200"
};
// Devices beside the CPU; when there is none, `reason` says why.
[[nodiscard]] std::vector<DeviceModel> accelerators(std::string& reason);

// "cpu, cuda": what this build holds.
[[nodiscard]] std::string_view backend_names();
// Libraries that the kernels of this build use, with their versions: "oneDNN 2.6.3".
[[nodiscard]] std::vector<std::string> libraries();

}  // namespace halftone::api
