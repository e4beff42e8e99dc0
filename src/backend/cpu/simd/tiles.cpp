#include "backend/cpu/simd/tiles.h"

#include <algorithm>

#include "backend/cpu/cpu_features.h"

namespace halftone::backend::cpu {

const TileOps& tile_ops() {
  static const bool kHasTiles = [] {
    const std::vector<std::string> features = detect_features({});
    return std::ranges::find(features, "amx_bf16") != features.end();
  }();
  return kHasTiles ? tile_ops_amx() : tile_ops_plain();
}

}  // namespace halftone::backend::cpu
