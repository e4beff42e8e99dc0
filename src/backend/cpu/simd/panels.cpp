#include "backend/cpu/simd/panels.h"

#include "backend/backend.h"
#include "backend/cpu/cpu_features.h"

namespace halftone::backend::cpu {

const PanelOps* panel_ops(const DeviceInfo& info) {
  const auto usable = [&](std::string_view feature) {
    return info.has(feature) && is_present(feature);
  };
  if (usable("amx_int8") && usable("amx_bf16")) return &panel_ops_amx();
  if (usable("avx512_vnni")) {
    return info.has("amx_int8") && info.has("amx_bf16") ? &panel_ops_emulated() : &panel_ops_vnni();
  }
  return info.has("avx2") ? &panel_ops_avx2() : nullptr;
}

}  // namespace halftone::backend::cpu
