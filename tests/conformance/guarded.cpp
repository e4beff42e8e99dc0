#include "guarded.h"

#include <algorithm>
#include <cstring>

namespace halftone::conformance {
namespace {

constexpr size_t kGuardBytes = 256;
constexpr std::byte kGuard{0xa5};
constexpr std::byte kPoison{0xff};

int64_t pitch_of(const TensorType& type, Layout layout) {
  constexpr int64_t kGap = 5;  // elements
  return type.shape.row_size() + (layout == Layout::kPitched ? kGap : 0);
}

size_t bytes_of(const TensorType& type, Layout layout) {
  const int64_t rows = type.shape.num_rows();
  if (rows == 0) return 0;
  const int64_t elements = (rows - 1) * pitch_of(type, layout) + type.shape.row_size();
  return static_cast<size_t>(elements) * size_of(type.dtype);
}

}  // namespace

std::string_view to_string(Layout layout) {
  switch (layout) {
    case Layout::kDense:
      return "dense";
    case Layout::kMisaligned:
      return "misaligned";
    case Layout::kPitched:
      return "pitched";
  }
  return "?";
}

GuardedMemory::GuardedMemory(size_t bytes, size_t offset)
    : memory_(bytes + offset + 2 * kGuardBytes + 64, kGuard), bytes_(bytes) {
  const auto address = reinterpret_cast<uintptr_t>(memory_.data()) + kGuardBytes;
  begin_ = kGuardBytes + (64 - address % 64) % 64 + offset;
  poison();
}

void GuardedMemory::poison() { std::fill_n(data(), bytes_, kPoison); }

bool GuardedMemory::guards_intact() const {
  const auto is_guard = [](std::byte b) { return b == kGuard; };
  const auto first = memory_.begin();
  const auto begin = first + static_cast<std::ptrdiff_t>(begin_);
  return std::all_of(first, begin, is_guard) &&
         std::all_of(begin + static_cast<std::ptrdiff_t>(bytes_), memory_.end(), is_guard);
}

GuardedTensor::GuardedTensor(const TensorType& type, Layout layout)
    : memory_(bytes_of(type, layout), layout == Layout::kMisaligned ? size_of(type.dtype) : 0),
      view_(type, memory_.data(), pitch_of(type, layout)) {}

void GuardedTensor::write(const Tensor& dense) {
  const size_t row_bytes =
      static_cast<size_t>(view_.type.shape.row_size()) * size_of(view_.type.dtype);
  const size_t pitch_bytes = static_cast<size_t>(view_.row_pitch) * size_of(view_.type.dtype);
  for (size_t row = 0; row < static_cast<size_t>(view_.type.shape.num_rows()); ++row) {
    std::memcpy(memory_.data() + row * pitch_bytes, dense.data() + row * row_bytes, row_bytes);
  }
}

Tensor GuardedTensor::read() const {
  Tensor dense(view_.type);
  const size_t row_bytes =
      static_cast<size_t>(view_.type.shape.row_size()) * size_of(view_.type.dtype);
  const size_t pitch_bytes = static_cast<size_t>(view_.row_pitch) * size_of(view_.type.dtype);
  for (size_t row = 0; row < static_cast<size_t>(view_.type.shape.num_rows()); ++row) {
    std::memcpy(dense.data() + row * row_bytes, view_.as<std::byte>() + row * pitch_bytes,
                row_bytes);
  }
  return dense;
}

bool GuardedTensor::guards_intact() const {
  const size_t element = size_of(view_.type.dtype);
  const auto* bytes = view_.as<const std::byte>();
  for (int64_t row = 0; row + 1 < view_.type.shape.num_rows(); ++row) {
    const std::byte* gap =
        bytes + static_cast<size_t>(row * view_.row_pitch + view_.type.shape.row_size()) * element;
    const std::byte* end = bytes + static_cast<size_t>((row + 1) * view_.row_pitch) * element;
    if (!std::all_of(gap, end, [](std::byte b) { return b == kPoison; })) return false;
  }
  return memory_.guards_intact();
}

}  // namespace halftone::conformance
