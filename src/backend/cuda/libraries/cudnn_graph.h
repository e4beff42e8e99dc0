// A small operation graph run by cuDNN: tensors, then operations, then choose().
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "tensor/dtype.h"

namespace halftone::backend::cuda {

// cudnnPointwiseMode_t.
enum class CudnnPointwise : int { kAdd = 0 };

struct CudnnConv {
  int64_t stride = 1, pad_begin = 0, pad_end = 0;
};

// Arithmetic is f32. Tensors are described in cuDNN's order (n, channels, height, width) with
// strides that say how they lie. Any step may find that cuDNN does not take the graph: it then
// throws kUnsupported with cuDNN's reason.
class CudnnGraph {
 public:
  using TensorId = size_t;

  CudnnGraph();
  ~CudnnGraph();
  CudnnGraph(const CudnnGraph&) = delete;
  CudnnGraph& operator=(const CudnnGraph&) = delete;

  // An operand in device memory.
  TensorId tensor(DType dtype, const std::vector<int64_t>& dims,
                  const std::vector<int64_t>& strides, void* data);
  // A result that only other operations read.
  TensorId inner(DType dtype, const std::vector<int64_t>& dims,
                 const std::vector<int64_t>& strides);
  // One f32 number, given with each run.
  TensorId scalar(float value, size_t rank);

  void convolution(TensorId x, TensorId weight, TensorId y, const CudnnConv& conv);
  void pointwise(CudnnPointwise mode, TensorId x, TensorId b, TensorId y);
  // y = softmax(scale * q k^T) v as one operation (cuDNN 9.13.1 and newer); all (n, heads, tokens,
  // width).
  void attention(TensorId q, TensorId k, TensorId v, TensorId scale, TensorId y);

  // Takes the fastest of the first `candidates` engine configurations that need at most
  // `workspace_bytes`, by measuring on the operands' memory, or the one that the tuning cache knows
  // under `key`.
  void choose(const std::string& key, int candidates, void* workspace, size_t workspace_bytes);
  void enqueue(cudaStream_t stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone::backend::cuda
