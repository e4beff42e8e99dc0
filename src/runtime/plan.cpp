#include "runtime/plan.h"

#include <array>
#include <string>

#include "base/hash.h"
#include "runtime/plan_file.h"

namespace halftone::runtime {

std::string_view to_string(Storage storage) {
  constexpr std::array<std::string_view, 6> kNames{"weight",     "literal", "constant",
                                                   "persistent", "arena",   "view"};
  const auto index = static_cast<size_t>(storage);
  return index < kNames.size() ? kNames[index] : "?";
}

std::string Fingerprint::hash() const {
  Sha256 hash;
  for (const auto& [key, value] : entries) {
    hash.update_field(key);
    hash.update_field(value);
  }
  return to_hex(hash.finish());
}

std::string Fingerprint::entry(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return value;
  }
  return {};
}

std::vector<std::pair<std::string, std::string>> library_entries(
    const backend::DeviceInfo& device, std::span<const backend::Kernel* const> kernels) {
  Sha256 table;
  for (const backend::Kernel* kernel : kernels) table.update_field(kernel->name);
  return {{"library", HALFTONE_VERSION},
          {"plan_format", std::to_string(kPlanFormatVersion)},
          {"device", device.name},
          {"arch", device.arch},
          {"units", std::to_string(device.num_units)},
          {"kernel_table", to_hex(table.finish()).substr(0, 16)}};
}

}  // namespace halftone::runtime
