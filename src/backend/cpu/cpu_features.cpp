#include "backend/cpu/cpu_features.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace halftone::backend::cpu {
namespace {

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(uint32_t leaf, uint32_t subleaf) {
  Leaf r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool bit(uint32_t word, int index) { return ((word >> index) & 1U) != 0; }

// XCR0: the register state that the operating system saves.
uint64_t saved_state() {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool request_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool is_disabled(std::string_view feature, std::span<const std::string> disabled) {
  return std::ranges::any_of(disabled, [&](const std::string& name) {
    const bool above = name == "avx2" || (name == "avx512" && feature.starts_with("amx"));
    return above || feature.starts_with(name);
  });
}

}  // namespace

std::vector<std::string> detect_features(std::span<const std::string> disabled) {
  const Leaf basic = cpuid(1, 0);
  const Leaf extended = cpuid(7, 0);
  const Leaf extended1 = cpuid(7, 1);
  const uint64_t state = saved_state();
  const bool ymm = (state & 0x6U) == 0x6U;
  const bool zmm = (state & 0xe6U) == 0xe6U;
  const bool tiles = (state & 0x60000U) == 0x60000U;

  const bool avx2 = ymm && bit(extended.ebx, 5) && bit(basic.ecx, 12) && bit(basic.ecx, 29);
  const bool avx512 = avx2 && zmm && bit(extended.ebx, 16) && bit(extended.ebx, 17) &&
                      bit(extended.ebx, 30) && bit(extended.ebx, 31);
  std::vector<std::string> found;
  const auto add = [&](bool present, const char* name) {
    if (present && !is_disabled(name, disabled)) found.emplace_back(name);
  };
  add(avx2, "avx2");
  add(avx512, "avx512");
  add(avx512 && bit(extended.ecx, 11), "avx512_vnni");
  add(avx512 && bit(extended1.eax, 5), "avx512_bf16");
  const bool amx =
      avx512 && tiles && bit(extended.edx, 24) && !is_disabled("amx", disabled) && request_tiles();
  add(amx && bit(extended.edx, 22), "amx_bf16");
  add(amx && bit(extended.edx, 25), "amx_int8");
  return found;
}

bool is_present(std::string_view feature) {
  static const std::vector<std::string> kPresent = detect_features({});
  return std::ranges::find(kPresent, feature) != kPresent.end();
}

}  // namespace halftone::backend::cpu
