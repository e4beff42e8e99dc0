#include "backend/cpu/simd/tiles.h"

#include "backend/cpu/cpu_features.h"

namespace halftone::backend::cpu {

const TileOps& tile_ops() { return is_present("amx_bf16") ? tile_ops_amx() : tile_ops_plain(); }

}  // namespace halftone::backend::cpu
