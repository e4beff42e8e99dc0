// Compiled with AVX-512 F, BW, VL and DQ. Everything here has internal linkage, so that no inline
// function compiled for AVX-512 can be chosen by the linker for the rest of the program.
#include <immintrin.h>

#include "backend/cpu/simd/vector_ops.h"

namespace halftone::backend::cpu {
namespace {

#include "backend/cpu/simd/avx512.inc"

}  // namespace

const VectorOps& vector_ops_avx512() { return kOps; }

}  // namespace halftone::backend::cpu
