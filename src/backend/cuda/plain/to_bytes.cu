// A picture's bytes, and whether a value of it is not finite.
#include "backend/cuda/error.h"
#include "backend/cuda/plain/device.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ uint8_t byte_of(float v) {
  return static_cast<uint8_t>(__float2uint_rn(255.0F * __saturatef(v)));  // saturated NaN is 0
}

// Four at a time, then what is left of the last four. Only ones are written to the flag.
__global__ void __launch_bounds__(kThreads)
    to_bytes_kernel(const float* x, uint8_t* y, float* flag, int64_t count) {
  const int64_t step = gridDim.x * int64_t{kThreads} * 4;
  bool finite = true;
  for (int64_t i = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * 4; i < count; i += step) {
    if (i + 4 <= count) {
      const float4 v = *reinterpret_cast<const float4*>(x + i);
      finite = finite && isfinite(v.x) && isfinite(v.y) && isfinite(v.z) && isfinite(v.w);
      *reinterpret_cast<uchar4*>(y + i) =
          make_uchar4(byte_of(v.x), byte_of(v.y), byte_of(v.z), byte_of(v.w));
    } else {
      for (int64_t k = i; k < count; ++k) {
        finite = finite && isfinite(x[k]);
        y[k] = byte_of(x[k]);
      }
    }
  }
  if (!finite) *flag = 1.0F;
}

}  // namespace

void launch_to_bytes(const float* x, uint8_t* y, float* flag, int64_t count, cudaStream_t stream) {
  check(cudaMemsetAsync(flag, 0, sizeof(float), stream), "clearing a flag");
  if (count == 0) return;
  to_bytes_kernel<<<num_blocks((count + 3) / 4, kThreads), kThreads, 0, stream>>>(x, y, flag,
                                                                                  count);
  check_launch("to_bytes");
}

}  // namespace halftone::backend::cuda
