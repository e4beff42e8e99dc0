// Normal noise that equals torch.randn's, so that a seed means the same picture here and in
// diffusers.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <variant>

namespace halftone {

// torch maps elements of a large CUDA tensor to threads by the device's size: tensors of more than
// multiprocessors * threads_per_multiprocessor elements depend on these two numbers (default:
// H100/H200).
struct CudaGeometry {
  uint32_t multiprocessors = 132;
  uint32_t threads_per_multiprocessor = 2048;
};

// A stream of float32 standard normals; each randn() continues where the last one stopped, as
// successive torch.randn(..., generator=g) calls do. Not safe to share between threads.
class NoiseGenerator {
 public:
  // torch.Generator("cpu").manual_seed(seed): MT19937 of the low 32 seed bits. Sizes of 16 and more
  // are bit for bit those of torch's AVX2 and AVX-512 builds; smaller ones go through the C
  // library's double log1p, sin and cos.
  static NoiseGenerator torch_cpu(uint64_t seed);
  // torch.Generator("cuda").manual_seed(seed): Philox4x32-10 and cuRAND's Box-Muller, bit for bit
  // what an H200 draws.
  static NoiseGenerator torch_cuda(uint64_t seed, CudaGeometry geometry = {});

  // One torch.randn call of out.size() elements.
  void randn(std::span<float> out);

 private:
  struct TorchCpu {
    std::mt19937 engine;
    std::optional<double> spare;  // second value of the last Box-Muller pair of a small call
    void randn(std::span<float> out);
  };
  struct TorchCuda {
    uint64_t seed = 0;
    uint64_t offset = 0;  // in Philox blocks of four words
    CudaGeometry geometry;
    void randn(std::span<float> out);
  };
  explicit NoiseGenerator(std::variant<TorchCpu, TorchCuda> state) : state_(state) {}

  std::variant<TorchCpu, TorchCuda> state_;
};

}  // namespace halftone
