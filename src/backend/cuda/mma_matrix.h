// Linears and convolutions with quantized weights through mma.sync (plain/mma_matrix.cuh).
#pragma once

#include "backend/cuda/call.h"
#include "backend/cuda/plain/mma_args.h"

namespace halftone::backend::cuda {

// Whether types but x's, sizes and the device suit.
[[nodiscard]] Support supports_mma_matrix(const graph::OpDesc& desc, const DeviceInfo& info);

using LaunchMma = void (*)(const MmaMatrixArgs& args, cudaStream_t stream);
// Operands and epilogue, and the tile and splits with which `launch` is fastest: by measurement
// among the estimate's favourites, or as the tuning cache knows.
[[nodiscard]] MmaMatrixArgs mma_args(const graph::OpDesc& desc, const DeviceInfo& info,
                                     const Operands& operands, LaunchMma launch);

}  // namespace halftone::backend::cuda
