// Loops over independent pieces of work. Which thread runs a piece never changes its result.
#pragma once

#include <cstdint>

#include <omp.h>

namespace halftone::backend::cpu {

// f(piece, thread) for every piece in [0, n), then last(thread) of each thread; `thread` < threads.
// They must not throw.
template <class F, class Last>
void parallel_for(int threads, int64_t n, F f, Last last) {
  if (n <= 1 || threads <= 1) {
    for (int64_t i = 0; i < n; ++i) f(i, 0);
    return last(0);
  }
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(dynamic) nowait
    for (int64_t i = 0; i < n; ++i) f(i, omp_get_thread_num());
    last(omp_get_thread_num());
  }
}

template <class F>
void parallel_for(int threads, int64_t n, F f) {
  parallel_for(threads, n, f, [](int) {});
}

// Starting and joining threads costs a few microseconds: work below about twenty stays on one
// thread. Depends on sizes alone. `operations`: multiply-adds, or elements times 32 for what memory
// bounds.
[[nodiscard]] inline int useful_threads(int threads, int64_t operations) {
  return operations < (int64_t{1} << 20) ? 1 : threads;
}

}  // namespace halftone::backend::cpu
