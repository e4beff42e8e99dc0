#include "backend/backend.h"

#include <algorithm>

namespace halftone::backend {

bool DeviceInfo::has(std::string_view feature) const {
  return std::ranges::find(features, feature) != features.end();
}

const Kernel* find_kernel(std::span<const Kernel* const> kernels, std::string_view name) {
  const auto it = std::ranges::find_if(kernels, [&](const Kernel* k) { return k->name == name; });
  return it == kernels.end() ? nullptr : *it;
}

}  // namespace halftone::backend
