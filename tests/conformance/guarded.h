// Memory with guard zones, and operands laid out dense, misaligned or pitched in it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace halftone::conformance {

enum class Layout : uint8_t { kDense, kMisaligned, kPitched };
[[nodiscard]] std::string_view to_string(Layout layout);

// `bytes` of memory, 64-byte aligned plus `offset`, between zones whose pattern must survive.
// Filled with 0xff, which is NaN in every floating type.
class GuardedMemory {
 public:
  explicit GuardedMemory(size_t bytes, size_t offset = 0);
  [[nodiscard]] std::byte* data() { return memory_.data() + begin_; }
  void poison();
  [[nodiscard]] bool guards_intact() const;

 private:
  std::vector<std::byte> memory_;
  size_t begin_ = 0;
  size_t bytes_;
};

// An operand in guarded memory. Gaps between pitched rows hold 0xff too.
class GuardedTensor {
 public:
  GuardedTensor(const TensorType& type, Layout layout);
  void write(const Tensor& dense);
  [[nodiscard]] Tensor read() const;
  void poison() { memory_.poison(); }
  [[nodiscard]] const TensorView& view() const { return view_; }
  // Guard zones and gaps untouched.
  [[nodiscard]] bool guards_intact() const;

 private:
  GuardedMemory memory_;
  TensorView view_;
};

}  // namespace halftone::conformance
