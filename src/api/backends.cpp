#include "api/backends.h"

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"

namespace halftone::api {

std::unique_ptr<backend::Device> create_device(const std::string& name, int threads) {
  if (name == "auto" || name == "cpu" || name.empty()) {
    return backend::cpu::create_cpu_device({.threads = threads, .disabled_features = {}});
  }
  if (name == "cuda" || name.starts_with("cuda:")) {
    throw Error(Errc::kDeviceLost,
                fmt::format("device {}: this build has no CUDA backend; use --device cpu", name));
  }
  throw Error(Errc::kInvalidArgument, fmt::format("device: got '{}', wanted auto or cpu", name));
}

}  // namespace halftone::api
