// What the processor and the operating system offer.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::backend::cpu {

// In rising order: "avx2" (with FMA and F16C), "avx512" (F, BW, VL, DQ), "avx512_vnni",
// "avx512_bf16", "amx_bf16", "amx_int8". Without those named in `disabled`: a name takes all
// features that begin with it, and "avx2" and "avx512" take all above them too. Asks the kernel for
// the AMX tile state.
[[nodiscard]] std::vector<std::string> detect_features(std::span<const std::string> disabled);

// Whether this processor has the feature: a DeviceInfo may claim more, for tests.
[[nodiscard]] bool is_present(std::string_view feature);

}  // namespace halftone::backend::cpu
