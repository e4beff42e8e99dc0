#include "api/backends.h"

#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "backend/metered_device.h"
#ifdef HALFTONE_WITH_CUDA
#include "backend/cuda/architectures.h"
#include "backend/cuda/cuda_device.h"
#endif

namespace halftone::api {
namespace {

// "cuda" = 0, "cuda:1" = 1; nullopt for other names.
std::optional<int> cuda_ordinal(std::string_view name) {
  if (name == "cuda") return 0;
  if (!name.starts_with("cuda:")) return std::nullopt;
  int ordinal = 0;
  const std::string_view digits = name.substr(5);
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), ordinal);
  if (error != std::errc() || end != digits.end()) return std::nullopt;
  return ordinal;
}

// Where a backend's measured choices are kept; empty = nowhere.
std::string tuning_file(const DeviceOptions& options, std::string_view backend) {
  if (options.cache_dir.empty()) return "";
  return fmt::format("{}/tuning/{}.txt", options.cache_dir, backend);
}

#ifdef HALFTONE_WITH_CUDA
std::unique_ptr<backend::Device> create_cuda(int ordinal, const DeviceOptions& options) {
  return backend::cuda::create_cuda_device({.ordinal = ordinal,
                                            .tuning_file = tuning_file(options, "cuda"),
                                            .overlap_launches = options.overlap_launches});
}

std::vector<DeviceModel> cuda_devices(std::string& reason) {
  std::vector<DeviceModel> models;
  for (backend::DeviceInfo& info : backend::cuda::list_cuda_devices(&reason)) {
    std::string model = backend::cuda::model_name(static_cast<int>(models.size()));
    const auto ordinal = static_cast<int>(models.size());
    std::string problem = backend::cuda::unusable_because(info);
    models.push_back({.info = std::move(info),
                      .model = std::move(model),
                      .free_bytes = backend::cuda::free_bytes(ordinal),
                      .problem = std::move(problem)});
  }
  return models;
}

std::vector<std::string> cuda_versions() { return backend::cuda::build_versions(); }

constexpr std::string_view kBackends = "cpu, cuda";
#else
std::unique_ptr<backend::Device> create_cuda(int ordinal, const DeviceOptions& /*options*/) {
  throw Error(Errc::kDeviceLost,
              fmt::format("device cuda:{}: this build has no CUDA backend; use --device cpu, or "
                          "build with nvcc",
                          ordinal));
}

std::vector<DeviceModel> cuda_devices(std::string& reason) {
  reason = "this build has no CUDA backend";
  return {};
}

std::vector<std::string> cuda_versions() { return {}; }

constexpr std::string_view kBackends = "cpu";
#endif

}  // namespace

DeviceChoice choose_device() {
  std::string reason;
  const std::vector<DeviceModel> found = accelerators(reason);
  return choose_device(found, reason);
}

std::unique_ptr<backend::Device> create_device(const std::string& name,
                                               const DeviceOptions& options) {
  if (name == "auto" || name.empty()) return create_device(choose_device().name, options);
  if (name == "cpu") {
    return backend::meter(
        backend::cpu::create_cpu_device({.threads = options.threads, .disabled_features = {}},
                                        tuning_file(options, "cpu")),
        options.memory_limit);
  }
  if (const auto ordinal = cuda_ordinal(name)) {
    return backend::meter(create_cuda(*ordinal, options), options.memory_limit);
  }
  throw Error(Errc::kInvalidArgument,
              fmt::format("device: got '{}', wanted auto, cpu, cuda or cuda:N", name));
}

std::vector<DeviceModel> accelerators(std::string& reason) { return cuda_devices(reason); }

std::string_view backend_names() { return kBackends; }

std::vector<std::string> libraries() {
  std::vector<std::string> versions = {backend::cpu::library_versions()};
  for (std::string& version : cuda_versions()) versions.push_back(std::move(version));
  return versions;
}

}  // namespace halftone::api
