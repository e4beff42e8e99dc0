#include "backend/tuning_cache.h"

namespace halftone::backend {

std::string_view kernels_hash() { return HALFTONE_KERNELS; }

}  // namespace halftone::backend
