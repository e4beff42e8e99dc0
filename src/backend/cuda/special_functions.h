// What the special function unit computes: 2^x and 1/x within 2 and 1 ulp, denormals are zero.
#pragma once

namespace halftone::backend::cuda {

inline constexpr float kLog2E = 1.44269504F;

#ifdef __CUDACC__
// __expf and __fdividef spend as much again on ranges in which a result is 0 or x.
__device__ __forceinline__ float power_of_two(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}
__device__ __forceinline__ float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
#endif

}  // namespace halftone::backend::cuda
