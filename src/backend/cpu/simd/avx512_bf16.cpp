// As avx512.cpp, compiled with AVX-512 BF16 too.
#include <immintrin.h>

#include "backend/cpu/simd/vector_ops.h"

namespace halftone::backend::cpu {
namespace {

#include "backend/cpu/simd/avx512.inc"

}  // namespace

const VectorOps& vector_ops_avx512_bf16() { return kOps; }

}  // namespace halftone::backend::cpu
