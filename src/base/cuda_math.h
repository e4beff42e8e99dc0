// cuRAND's normal numbers, bit for bit: what a CUDA kernel computes for logf, __sinf and __cosf.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halftone {

// cuRAND's Box-Muller pairs of n pairs of random words: first[i] and second[i] of x[i] and y[i].
void curand_normals(const uint32_t* x, const uint32_t* y, float* first, float* second, size_t n);

}  // namespace halftone
