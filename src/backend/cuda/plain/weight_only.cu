// Linears with x in 16 bits and a weight of 8-, 4- or 2-bit codes.
#include "backend/cuda/plain/mma_matrix.cuh"

namespace halftone::backend::cuda {
namespace {

template <DType kX>
void launch_codes(const MmaMatrixArgs& a, cudaStream_t stream) {
  const CodeFormat& format = a.matrix.weight_format;
  if (format.dtype == DType::kF8E4M3) {
    launch_mma_tile<kX, Codes::kF8, false>(a, stream);
  } else if (format.dtype == DType::kI8) {
    launch_mma_tile<kX, Codes::kI8, false>(a, stream);
  } else if (format.bits == 4) {
    launch_mma_tile<kX, Codes::kI4, false>(a, stream);
  } else {
    launch_mma_tile<kX, Codes::kI2, false>(a, stream);
  }
}

}  // namespace

void launch_weight_only(const MmaMatrixArgs& a, cudaStream_t stream) {
  if (a.matrix.x.dtype == DType::kF16) {
    launch_codes<DType::kF16>(a, stream);
  } else {
    launch_codes<DType::kBF16>(a, stream);
  }
}

}  // namespace halftone::backend::cuda
