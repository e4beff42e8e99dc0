// Times single kernels of a device on the shapes of the networks.
#pragma once

#include "halftone/kernels.h"

#include "backend/backend.h"

namespace halftone::workflow {

[[nodiscard]] KernelBenchReport bench_kernels(backend::Device& device,
                                              const KernelBenchOptions& options);

// The datasheet's for an H200 ("sm_90"); elsewhere measured: the best rate of a large linear on any
// kernel, a type each, and the device's own copy, which reads and writes. `dtypes` = which types.
[[nodiscard]] Peaks peaks_of(backend::Device& device, std::span<const DType> dtypes);

// Rate of an element type; 0 when it is not among the peaks.
[[nodiscard]] double tflops_of(const Peaks& peaks, std::string_view dtype);

}  // namespace halftone::workflow
