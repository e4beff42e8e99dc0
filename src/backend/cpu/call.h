// What our own kernels share: launches from functions, rows of operands, scratch, common
// conditions.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "backend/backend.h"
#include "backend/cpu/simd/vector_ops.h"

namespace halftone::backend::cpu {

// A launch that calls `run()`; whatever run captured lives as long as the launch.
template <class F>
std::unique_ptr<Launch> make_launch(F run) {
  class FunctionLaunch final : public Launch {
   public:
    explicit FunctionLaunch(F f) : run_(std::move(f)) {}
    void enqueue(Stream& /*stream*/) const override { run_(); }

   private:
    F run_;
  };
  return std::make_unique<FunctionLaunch>(std::move(run));
}

// The rows of an operand: `count` rows of `size` elements. A default one is an absent operand.
struct Rows {
  std::byte* data = nullptr;
  int64_t pitch_bytes = 0;
  int64_t count = 0;
  int64_t size = 0;
  DType dtype = DType::kF32;

  Rows() = default;
  explicit Rows(const TensorView& view);
  explicit operator bool() const { return data != nullptr; }
  [[nodiscard]] std::byte* at(int64_t row, int64_t col = 0) const {
    return data + row * pitch_bytes + col * static_cast<int64_t>(size_of(dtype));
  }
  [[nodiscard]] bool is_dense() const {
    return pitch_bytes == size * static_cast<int64_t>(size_of(dtype));
  }
  // All elements as one row; wants a dense operand.
  [[nodiscard]] Rows flat() const;
};

// First operand of a role; absent when there is none.
[[nodiscard]] Rows find_rows(const graph::OpDesc& desc, const Operands& operands, graph::Role role);
[[nodiscard]] const TensorView* find_view(const graph::OpDesc& desc, const Operands& operands,
                                          graph::Role role);

// Divides a workspace into 64-byte aligned parts. With a null base it only measures.
class Scratch {
 public:
  explicit Scratch(void* base) : base_(static_cast<std::byte*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    const size_t at = used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  [[nodiscard]] size_t used_bytes() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

[[nodiscard]] bool is_vector_type(DType dtype);
// Yes when VectorOps serve the op: instruction set and element types of all operands.
[[nodiscard]] Support supports_vector_ops(const graph::OpDesc& desc, const DeviceInfo& info);

// A kernel with one configuration, no workspace and weights as they are.
[[nodiscard]] constexpr Kernel plain_kernel(std::string_view name, graph::OpKind op,
                                            decltype(Kernel::supports) supports,
                                            decltype(Kernel::prepare) prepare) {
  return {.name = name,
          .op = op,
          .supports = supports,
          .configs = nullptr,
          .workspace_bytes = nullptr,
          .packed_bytes = nullptr,
          .pack_key = nullptr,
          .pack = nullptr,
          .prepare = prepare};
}

[[nodiscard]] constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace halftone::backend::cpu
