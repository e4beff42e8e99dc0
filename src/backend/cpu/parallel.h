// Loops over independent pieces of work. Which thread runs a piece never changes its result.
#pragma once

#include <cstdint>

#include <omp.h>

namespace halftone::backend::cpu {

// f(piece, thread) for every piece in [0, n); `thread` < threads. f must not throw.
template <class F>
void parallel_for(int threads, int64_t n, F f) {
  if (n <= 1 || threads <= 1) {
    for (int64_t i = 0; i < n; ++i) f(i, 0);
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t i = 0; i < n; ++i) f(i, omp_get_thread_num());
}

}  // namespace halftone::backend::cpu
