// Matrix products for kernels that are tested by themselves: operands on the device, and what
// double makes of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "backend/cuda/hopper/gemm.h"
#include "tensor/tensor.h"

namespace halftone::conformance {

// How often a kernel must leave the same bytes.
inline constexpr int kRuns = 100;

[[nodiscard]] DType dtype_of(backend::cuda::hopper::Element element);

// Of a GPU that runs the family; 0: there is none.
[[nodiscard]] int num_sms();

class DeviceTensor {
 public:
  explicit DeviceTensor(const Tensor& t) : bytes_(t.type().num_bytes()) {
    EXPECT_EQ(cudaMalloc(&data_, bytes_), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, t.data(), bytes_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~DeviceTensor() { cudaFree(data_); }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;
  [[nodiscard]] void* data() const { return data_; }
  template <class T>
  [[nodiscard]] const T* as() const {
    return static_cast<const T*>(data_);
  }
  // Bytes that no result has.
  void spoil() { EXPECT_EQ(cudaMemset(data_, 0xFF, bytes_), cudaSuccess); }
  void read(Tensor& t) const {
    EXPECT_EQ(cudaMemcpy(t.data(), data_, bytes_, cudaMemcpyDeviceToHost), cudaSuccess);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

struct Problem {
  const char* name;
  backend::cuda::hopper::GemmShape shape;
  bool row_add = false;
  bool row_scales = true;  // of 8-bit operands; else one scale
  // Of a weight beside x in 16 bits, which then are whole numbers: all sums are exact.
  std::optional<backend::cuda::hopper::Element> codes = std::nullopt;
  backend::cuda::hopper::Activation activation = backend::cuda::hopper::Activation::kNone;
};

[[nodiscard]] Problem linear(const char* name, backend::cuda::hopper::Element in,
                             backend::cuda::hopper::Element out, int64_t m, int64_t n, int64_t k,
                             bool residual, bool geglu = false);
[[nodiscard]] Problem image(const char* name, backend::cuda::hopper::Element in,
                            backend::cuda::hopper::Element out, const std::vector<int64_t>& nhwc,
                            int64_t n, int64_t stride, bool residual, bool row_add);
[[nodiscard]] Problem one_scale(Problem p);
[[nodiscard]] Problem activated(Problem p, backend::cuda::hopper::Activation activation);
[[nodiscard]] Problem weight_only(Problem p, backend::cuda::hopper::Element codes);

// Of codes the codes themselves.
[[nodiscard]] std::vector<float> floats(const Tensor& t);
[[nodiscard]] double gated(double value, double gate);

// Operands of a problem, the same ones each time.
struct Data {
  Tensor x, weight, residual, bias, row_add, row_scale, column_scale;

  explicit Data(const Problem& p);

 private:
  // What tiles make of rows behind the last, of biases alone, becomes larger than what is y.
  void outweigh(const backend::cuda::hopper::GemmShape& s, std::mt19937& random);
};

// Products in double, what follows as the kernels round it. The problem must outlive it.
class Expected {
 public:
  Expected(const Problem& p, const Data& d);

  [[nodiscard]] const std::vector<float>& y() const { return y_; }
  [[nodiscard]] float largest() const { return largest_; }
  // The most that products change a result by: it must be well above what a kernel may be off by.
  [[nodiscard]] float effect() const { return effect_; }

 private:
  [[nodiscard]] double dot(const float* x, const float* w) const;
  [[nodiscard]] double product(int64_t m, int64_t n) const;
  [[nodiscard]] size_t index(int64_t row) const { return static_cast<size_t>(row * s_.channels); }
  [[nodiscard]] float scaled(const Problem& p, const Data& d, int64_t m, int64_t n) const;

  const backend::cuda::hopper::GemmShape& s_;
  std::vector<float> x_;
  std::vector<float> w_;
  std::vector<float> y_;
  float largest_ = 0;
  float effect_ = 0;
};

// One rounding of the result and `slack` of the largest.
void expect_close(const Tensor& y, const Expected& expected, float slack);

}  // namespace halftone::conformance
