// y = act(x + bias + row_add) + residual, GEGLU, affine: one read of each operand, one write.
#include "backend/cuda/launch.h"
#include "backend/cuda/plain/epilogue.cuh"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/row_norm.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;

// One half (or all) of h = x + bias + row_add, x normalized where that is asked for.
template <int kWidth>
__device__ __forceinline__ void load_h(const EpilogueArgs& a, int64_t row, int64_t col,
                                       int64_t width, float (&v)[kWidth]) {
  load(a.x.data, a.x.dtype, row * width + col, v);
  normalize_row(a.norm, row, col, v);
  add_bias(a, row, col, width, v);
}

template <int kWidth, bool kGeglu>
__global__ void __launch_bounds__(kThreads)
    epilogue_kernel(const __grid_constant__ EpilogueArgs a) {
  follow_previous_kernel();
  const int64_t per_row = a.cols / kWidth;
  const int64_t total = a.rows * per_row;
  const int64_t width = kGeglu ? 2 * a.cols : a.cols;
  const bool is_small = total < (int64_t{1} << 31);  // dividing 64 bits takes longer than the loads
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t row =
        is_small ? static_cast<uint32_t>(i) / static_cast<uint32_t>(per_row) : i / per_row;
    const int64_t col = (i - row * per_row) * kWidth;
    float v[kWidth];
    load_h(a, row, col, width, v);
    if constexpr (kGeglu) {
      float gate[kWidth];
      load_h(a, row, col + a.cols, width, gate);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) v[k] *= gelu_erf(gate[k]);
    } else {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) v[k] = activate(a.act, v[k]);
    }
    add_residual(a, row, col, v);
    store(a.y.data, a.y.dtype, row * a.cols + col, v);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) affine_kernel(const __grid_constant__ AffineArgs a) {
  follow_previous_kernel();
  for (int64_t i = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * kWidth; i < a.count;
       i += gridDim.x * int64_t{kThreads} * kWidth) {
    float v[kWidth];
    load(a.x.data, a.x.dtype, i, v);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float y = fmaf(a.scale, v[k], a.shift);
      v[k] = y < a.low ? a.low : y > a.high ? a.high : y;  // keeps NaN
    }
    store(a.y.data, a.y.dtype, i, v);
  }
}

}  // namespace

void launch_epilogue(const EpilogueArgs& given, cudaStream_t stream) {
  EpilogueArgs a = given;
  // Without columns of their own, rows are one long row.
  if (!a.geglu && a.bias.data == nullptr && a.row_add.data == nullptr && a.residual_rows == 0 &&
      a.norm.statistics == nullptr) {
    a.cols *= a.rows;
    a.rows = 1;
    if (a.cols % 8 != 0 && a.cols > 64) {  // the whole vectors, then the rest
      EpilogueArgs rest = a;
      rest.cols = a.cols % 8;
      a.cols -= rest.cols;
      const auto skip = [&](const void* p, DType t) -> const void* {
        if (p == nullptr) return nullptr;
        return static_cast<const std::byte*>(p) + a.cols * static_cast<int64_t>(size_of(t));
      };
      rest.x.data = skip(a.x.data, a.x.dtype);
      rest.residual.data = skip(a.residual.data, a.residual.dtype);
      rest.y.data = const_cast<void*>(skip(a.y.data, a.y.dtype));
      launch("epilogue", epilogue_kernel<1, false>, dim3(1), kThreads, 0, stream, rest);
    }
  }
  if (a.rows * a.cols == 0) return;
  const bool eight = takes_eight(a.x.data, a.x.dtype, a.cols) &&
                     takes_eight(a.bias.data, a.bias.dtype, a.cols) &&
                     takes_eight(a.row_add.data, a.row_add.dtype, a.cols) &&
                     takes_eight(a.residual.data, a.residual.dtype, a.cols) &&
                     takes_eight(a.y.data, a.y.dtype, a.cols);
  const unsigned blocks = num_blocks(a.rows * a.cols / (eight ? 8 : 1), kThreads);
  if (eight && a.geglu) {
    launch("epilogue", epilogue_kernel<8, true>, blocks, kThreads, 0, stream, a);
  } else if (eight) {
    launch("epilogue", epilogue_kernel<8, false>, blocks, kThreads, 0, stream, a);
  } else if (a.geglu) {
    launch("epilogue", epilogue_kernel<1, true>, blocks, kThreads, 0, stream, a);
  } else {
    launch("epilogue", epilogue_kernel<1, false>, blocks, kThreads, 0, stream, a);
  }
}

void launch_affine(const AffineArgs& a, cudaStream_t stream) {
  if (a.count == 0) return;
  if (takes_eight(a.x.data, a.x.dtype, a.count) && takes_eight(a.y.data, a.y.dtype, a.count)) {
    launch("affine", affine_kernel<8>, dim3(num_blocks(a.count / 8, kThreads)), kThreads, 0, stream,
           a);
  } else {
    launch("affine", affine_kernel<1>, dim3(num_blocks(a.count, kThreads)), kThreads, 0, stream, a);
  }
}

}  // namespace halftone::backend::cuda
