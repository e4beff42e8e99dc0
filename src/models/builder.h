// Writes models as their torch modules are written: scopes name modules, layers declare their
// weights.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "graph/graph.h"

namespace halftone::models {

using graph::Rate;
using graph::ValueId;

// A square convolution; padding before and after both spatial axes.
struct Conv {
  int64_t channels = 0;  // output channels
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t pad_begin = 1;
  int64_t pad_end = 1;
};
[[nodiscard]] inline Conv conv3x3(int64_t channels) { return {.channels = channels}; }
[[nodiscard]] inline Conv conv1x1(int64_t channels) {
  return {.channels = channels, .kernel = 1, .pad_begin = 0, .pad_end = 0};
}

enum class Bias : bool { kNone, kPresent };

// Builds one graph. A layer called `name` within the open scopes "a", "b.0" of component "unet"
// reads the checkpoint tensors "unet/a.b.0.name.weight" and ".bias" and becomes the node
// "a.b.0.name". Activations, weights and biases have the compute dtype, norm parameters are f32;
// graph inputs and outputs are f32 (or i32) and cast here. Activations are [n,h,w,c] or
// [batch,tokens,c].
class Builder {
 public:
  Builder(std::string component, DType compute_dtype)
      : component_(std::move(component)), compute_dtype_(compute_dtype) {}

  // Open while it lives; scopes close in reverse order.
  class Scope {
   public:
    Scope(Builder& builder, std::string_view name);
    Scope(Builder& builder, std::string_view list, size_t index);
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    Scope(Scope&&) = delete;
    Scope& operator=(Scope&&) = delete;
    ~Scope();

   private:
    Builder& builder_;
    size_t parent_length_;
  };

  // Graph boundary. `input` leaves the type alone; `compute` casts to the compute dtype; `output`
  // casts to f32.
  ValueId input(std::string name, TensorType type, Rate rate);
  ValueId compute(ValueId x) { return cast(x, compute_dtype_); }
  void output(std::string name, ValueId x);
  // Outputs "rgb" u8 and "not_finite" f32[1] of an image (graph/ops/to_bytes.h).
  void output_bytes(ValueId image);

  // Layers with weights; weights have torch's shapes in the checkpoint.
  ValueId conv2d(std::string_view name, ValueId x, const Conv& conv, Bias bias = Bias::kPresent);
  ValueId linear(std::string_view name, ValueId x, int64_t out, Bias bias = Bias::kPresent);
  ValueId group_norm(std::string_view name, ValueId x, int64_t groups, double eps);
  ValueId layer_norm(std::string_view name, ValueId x, double eps);
  // The table itself, [rows, channels]: an nn.Embedding.
  ValueId table(std::string_view name, int64_t rows, int64_t channels);
  // A tensor of the open scope's module itself: an nn.Parameter.
  ValueId parameter(std::string_view name, Shape shape);

  // Arithmetic without weights.
  ValueId activate(graph::Activation activation, ValueId x);
  ValueId silu(ValueId x) { return activate(graph::Activation::kSilu, x); }
  ValueId add(ValueId a, ValueId b);
  ValueId affine(ValueId x, const graph::Affine& affine);
  ValueId attention(ValueId q, ValueId k, ValueId v, const graph::Attention& attention);
  ValueId concat(const std::vector<ValueId>& parts, int64_t axis);
  ValueId slice(ValueId x, int64_t axis, int64_t begin, int64_t end);
  ValueId reshape(ValueId x, std::vector<int64_t> shape);
  ValueId cast(ValueId x, DType dtype);  // x itself when nothing changes
  // Any other op; named after itself within the scope.
  ValueId op(graph::OpAttrs attrs, std::vector<graph::Operand> inputs);

  [[nodiscard]] const Shape& shape(ValueId x) const { return graph_.type(x).shape; }
  [[nodiscard]] int64_t channels(ValueId x) const { return shape(x)[-1]; }

  // The finished graph; the builder is empty afterwards.
  [[nodiscard]] graph::Graph take() { return std::move(graph_); }

 private:
  [[nodiscard]] std::string path(std::string_view name) const;
  ValueId weight(std::string_view layer, std::string_view tensor, DType dtype, Shape shape);
  // The checkpoint tensor of this path, whose component is added here.
  ValueId tensor(const std::string& path, DType dtype, Shape shape);

  std::string component_;
  DType compute_dtype_;
  std::string scope_;
  std::map<std::string, ValueId> weights_;  // a tensor that is read twice is one constant
  std::map<std::string, int> num_uses_;     // of the names of ops without weights
  graph::Graph graph_;
};

}  // namespace halftone::models
