// A plan file; or, as no fuzzer guesses SHA-256, the three sections of one without its header: two
// 32-bit sizes, then the head, the profiles and the literals.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "halftone/error.h"

#include "runtime/plan_codec.h"
#include "runtime/plan_file.h"

namespace {

using namespace halftone::runtime;

Plan plan_of_sections(std::span<const std::byte> bytes) {
  uint32_t sizes[2] = {};
  if (bytes.size() < sizeof(sizes)) return deserialize(bytes, "fuzz");
  std::memcpy(sizes, bytes.data(), sizeof(sizes));
  bytes = bytes.subspan(sizeof(sizes));
  const auto head = bytes.first(std::min<size_t>(sizes[0], bytes.size()));
  bytes = bytes.subspan(head.size());
  const auto profiles = bytes.first(std::min<size_t>(sizes[1], bytes.size()));
  Plan plan = decode(head, profiles, bytes.subspan(profiles.size()), "fuzz");
  check_plan(plan, "fuzz");
  return plan;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const bool is_file = size > 0 && data[0] == 0x89;
  try {
    const Plan plan = is_file ? deserialize(bytes, "fuzz") : plan_of_sections(bytes);
    // What is accepted is written and read again without a difference.
    const auto once = serialize(plan);
    if (serialize(deserialize(once, "again")) != once) std::abort();
  } catch (const halftone::Error& error) {
    const bool other_version = error.code() == halftone::Errc::kIncompatiblePlan && is_file;
    if (error.code() != halftone::Errc::kCorruptFile && !other_version) std::abort();
  }
  return 0;
}
