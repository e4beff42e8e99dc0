#include "backend/cpu/simd/vector_ops.h"

#include "backend/backend.h"
#include "backend/cpu/cpu_features.h"

namespace halftone::backend::cpu {

const VectorOps* vector_ops(const DeviceInfo& info) {
  if (info.has("avx512_bf16") && is_present("avx512_bf16")) return &vector_ops_avx512_bf16();
  if (info.has("avx512")) return &vector_ops_avx512();
  if (info.has("avx2")) return &vector_ops_avx2();
  return nullptr;
}

}  // namespace halftone::backend::cpu
