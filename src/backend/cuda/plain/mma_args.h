// Arguments of linears and convolutions with quantized weights on the tensor cores of every
// architecture from 8.0 on (mma_matrix.cuh).
#pragma once

#include "backend/cuda/plain/args.h"

namespace halftone::backend::cuda {

// Rows by columns of the product that a block makes.
enum class MmaTile : uint8_t { k16x64, k80x64, k128x128 };

// y = epilogue(sums * scales): x f16 or bf16 with any codes, or i8 with integer codes, or f8e4m3
// with f8e4m3. Rows of x's channels and of the weight are multiples of 16 bytes.
struct MmaMatrixArgs {
  QuantizedMatrixArgs matrix;      // y is not used
  EpilogueArgs epilogue;           // x is not used
  const float* y_scale = nullptr;  // y holds codes
  CodeFormat y_format;
  bool constant_weight = false;  // nothing in the stream writes it: it is read ahead
  bool eight = false;            // every row can be read and written eight columns at a time
  MmaTile tile = MmaTile::k80x64;
  // Blocks that share the terms of a tile, a cluster (from 9.0 on): at most kMaxMmaSplits.
  int splits = 1;
};
inline constexpr int kMaxMmaSplits = 8;

// Rows and columns of a tile.
[[nodiscard]] constexpr int rows_of(MmaTile tile) {
  return tile == MmaTile::k16x64 ? 16 : tile == MmaTile::k80x64 ? 80 : 128;
}
[[nodiscard]] constexpr int columns_of(MmaTile tile) {
  return tile == MmaTile::k128x128 ? 128 : 64;
}
// Bytes of a row of x that a block takes in a step.
[[nodiscard]] constexpr int step_bytes_of(MmaTile tile) {
  return tile == MmaTile::k128x128 ? 128 : 256;
}

// Linears with x in 16 bits; linears and convolutions with x in 8 bits.
void launch_weight_only(const MmaMatrixArgs& args, cudaStream_t stream);
void launch_codes_linear(const MmaMatrixArgs& args, cudaStream_t stream);
void launch_codes_conv(const MmaMatrixArgs& args, cudaStream_t stream);

}  // namespace halftone::backend::cuda
