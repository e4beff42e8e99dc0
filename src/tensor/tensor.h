// Shapes, typed views and host tensors. Shape order is memory order; the last dimension is
// contiguous.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace halftone {

// Concrete extents, outermost first. Rank 0 is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}

  [[nodiscard]] size_t rank() const { return dims_.size(); }
  // Negative axes count from the end. The axis must exist.
  [[nodiscard]] int64_t operator[](int axis) const {
    return dims_[axis < 0 ? dims_.size() - static_cast<size_t>(-axis) : static_cast<size_t>(axis)];
  }
  int64_t& operator[](int axis) {
    return dims_[axis < 0 ? dims_.size() - static_cast<size_t>(-axis) : static_cast<size_t>(axis)];
  }
  [[nodiscard]] int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t d : dims_) n *= d;
    return n;
  }
  // Product of all extents but the last: the number of contiguous rows.
  [[nodiscard]] int64_t num_rows() const {
    int64_t n = 1;
    for (size_t i = 0; i + 1 < dims_.size(); ++i) n *= dims_[i];
    return n;
  }
  [[nodiscard]] int64_t row_size() const { return dims_.empty() ? 1 : dims_.back(); }
  [[nodiscard]] const std::vector<int64_t>& dims() const { return dims_; }
  bool operator==(const Shape&) const = default;

 private:
  std::vector<int64_t> dims_;
};

// "[2,77,768]".
[[nodiscard]] std::string to_string(const Shape& shape);

struct TensorType {
  DType dtype = DType::kF32;
  Shape shape;
  [[nodiscard]] size_t num_bytes() const {
    return static_cast<size_t>(shape.num_elements()) * size_of(dtype);
  }
  bool operator==(const TensorType&) const = default;
};

// "bf16[2,77,768]".
[[nodiscard]] std::string to_string(const TensorType& type);

// A typed address; never owns. Rows (last dimension) are contiguous; consecutive rows are
// `row_pitch` elements apart (== row_size() when dense).
struct TensorView {
  TensorType type;
  void* data = nullptr;
  int64_t row_pitch = 0;

  TensorView() = default;
  TensorView(TensorType t, void* d)
      : type(std::move(t)), data(d), row_pitch(type.shape.row_size()) {}
  TensorView(TensorType t, void* d, int64_t pitch)
      : type(std::move(t)), data(d), row_pitch(pitch) {}
  [[nodiscard]] bool is_dense() const { return row_pitch == type.shape.row_size(); }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data);
  }
};

// A dense host tensor that owns its memory (64-byte aligned, not initialised).
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(TensorType type);
  static Tensor zeros(TensorType type);
  static Tensor from(Shape shape, std::span<const float> values);

  [[nodiscard]] const TensorType& type() const { return type_; }
  [[nodiscard]] const Shape& shape() const { return type_.shape; }
  [[nodiscard]] std::byte* data() { return data_.get(); }
  [[nodiscard]] const std::byte* data() const { return data_.get(); }
  [[nodiscard]] TensorView view() const { return {type_, data_.get()}; }
  template <class T>
  [[nodiscard]] std::span<T> values() {
    return {reinterpret_cast<T*>(data_.get()), type_.num_bytes() / sizeof(T)};
  }
  template <class T>
  [[nodiscard]] std::span<const T> values() const {
    return {reinterpret_cast<const T*>(data_.get()), type_.num_bytes() / sizeof(T)};
  }
  [[nodiscard]] Tensor clone() const;
  // A copy converted to another element type (round to nearest even, saturating for fp8/int).
  [[nodiscard]] Tensor to(DType dtype) const;

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  TensorType type_;
  std::unique_ptr<std::byte, Free> data_;
};

// Converts n contiguous elements between any two floating types, or copies equal types.
void convert(const void* src, DType src_type, void* dst, DType dst_type, size_t n);

// Reads named tensors, e.g. of a checkpoint. Names are "<component>/<tensor>", for example
// "unet/down_blocks.0.resnets.0.conv1.weight", always in diffusers' spelling and layout.
// Implementations are safe to read from several threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  [[nodiscard]] virtual bool contains(const std::string& name) const = 0;
  // Stored type; throws kNotFound with the name when absent.
  [[nodiscard]] virtual TensorType type(const std::string& name) const = 0;
  // Writes the tensor to `dst` (type.num_bytes() bytes) converted to type.dtype; the shape must
  // equal the stored one or throws kCorruptFile naming both.
  virtual void read(const std::string& name, const TensorType& type, std::byte* dst) const = 0;
};

}  // namespace halftone
