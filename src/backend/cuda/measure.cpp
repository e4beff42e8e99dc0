#include "backend/cuda/measure.h"

#include <algorithm>

#include <cuda_runtime.h>

#include "backend/cuda/context.h"
#include "backend/cuda/error.h"

namespace halftone::backend::cuda {

double measure_ms(const std::function<void()>& enqueue) {
  constexpr int kSeries = 3;
  constexpr int kCalls = 6;
  const cudaStream_t stream = context().stream;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin), "creating an event");
  check(cudaEventCreate(&end), "creating an event");
  enqueue();
  float best = 0;
  for (int series = 0; series < kSeries; ++series) {
    check(cudaEventRecord(begin, stream), "recording an event");
    for (int call = 0; call < kCalls; ++call) enqueue();
    check(cudaEventRecord(end, stream), "recording an event");
    check(cudaEventSynchronize(end), "measuring");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "reading events");
    best = series == 0 ? ms : std::min(best, ms);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return static_cast<double>(best) / kCalls;
}

}  // namespace halftone::backend::cuda
