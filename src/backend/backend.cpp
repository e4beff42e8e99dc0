#include "backend/backend.h"

#include <algorithm>

namespace halftone::backend {

bool DeviceInfo::has(std::string_view feature) const {
  return std::ranges::find(features, feature) != features.end();
}

Support supports(const Kernel& kernel, const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!kernel.statistics && graph::makes_statistics(desc)) {
    return Support::no("makes no statistics");
  }
  if (!kernel.projects_queries && graph::projects_queries(desc)) {
    return Support::no("computes no queries");
  }
  return kernel.supports(desc, info);
}

void Stream::mark(size_t index) {
  synchronize();
  if (index >= marks_.size()) marks_.resize(index + 1);
  marks_[index] = std::chrono::steady_clock::now();
}

double Stream::ms_between(size_t first, size_t last) const {
  return std::chrono::duration<double, std::milli>(marks_.at(last) - marks_.at(first)).count();
}

void Device::copy_rows(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t bytes,
                       size_t count, Stream& stream) {
  for (size_t i = 0; i < count; ++i) {
    copy(static_cast<std::byte*>(dst) + i * dst_pitch,
         static_cast<const std::byte*>(src) + i * src_pitch, bytes, stream);
  }
}

std::unique_ptr<PowerMeter> Device::open_power_meter(std::string& missing) {
  missing = info().name + " tells nothing of its power";
  return nullptr;
}

const Kernel* find_kernel(std::span<const Kernel* const> kernels, std::string_view name) {
  const auto it = std::ranges::find_if(kernels, [&](const Kernel* k) { return k->name == name; });
  return it == kernels.end() ? nullptr : *it;
}

}  // namespace halftone::backend
