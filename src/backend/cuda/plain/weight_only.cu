// Linears with x in 16 bits and a weight of 8-, 4- or 2-bit codes.
#include "backend/cuda/plain/mma_matrix.cuh"

namespace halftone::backend::cuda {

void launch_weight_only(const MmaMatrixArgs& a, cudaStream_t stream) {
  with_codes(a.matrix.weight_format, [&]<Codes kCodes>(CodesTag<kCodes>) {
    if (a.matrix.x.dtype == DType::kF16) {
      launch_mma_tile<DType::kF16, kCodes, false>(a, stream);
    } else {
      launch_mma_tile<DType::kBF16, kCodes, false>(a, stream);
    }
  });
}

}  // namespace halftone::backend::cuda
