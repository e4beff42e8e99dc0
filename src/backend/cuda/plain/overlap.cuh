// The device's side of overlapping launches (backend/cuda/launch.h).
#pragma once

namespace halftone::backend::cuda {

// The first thing that every thread does, before it reads or writes any memory: waits until the
// previous kernel has ended and its writes are visible, then lets the next kernel's blocks come.
// That order keeps it right for a chain: whoever waits for this kernel waits for all before it.
// Nothing in a kernel that was launched without overlap.
__device__ __forceinline__ void follow_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace halftone::backend::cuda
