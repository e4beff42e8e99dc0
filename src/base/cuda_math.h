// The device functions of cuRAND's normal numbers, bit for bit: what a CUDA kernel computes for
// logf, __sinf and __cosf.
#pragma once

namespace halftone {

struct CudaSinCos {
  float sin, cos;
};

// __sincosf for an angle from 0 to 2 pi: the argument in turns, rounded towards zero, then the
// special function unit's table, as read off an H200 (docs/numerics.md).
[[nodiscard]] CudaSinCos cuda_fast_sincos(float angle);

// logf of the CUDA 13 toolkit; x is a normal number.
[[nodiscard]] float cuda_log(float x);

}  // namespace halftone
