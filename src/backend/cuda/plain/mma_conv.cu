// Convolutions of 8-bit codes by 8-, 4- or 2-bit codes.
#include "backend/cuda/plain/mma_matrix.cuh"

namespace halftone::backend::cuda {

void launch_codes_conv(const MmaMatrixArgs& a, cudaStream_t stream) {
  launch_mma_codes<true>(a, stream);
}

}  // namespace halftone::backend::cuda
