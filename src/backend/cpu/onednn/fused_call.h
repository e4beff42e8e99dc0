// What the convolution and the matrix product share: one oneDNN primitive with bias, activation and
// residual, run once a batch row when a row add makes the bias differ between them.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include <dnnl.hpp>

#include "backend/cpu/call.h"

namespace halftone::backend::cpu::onednn {

[[nodiscard]] const dnnl::engine& engine();
[[nodiscard]] dnnl::memory::data_type data_type(DType dtype);

// oneDNN counts its threads when it describes a primitive and again when it runs one. Returns
// `threads`, or 1 where the multiply-adds are too few to share.
int use_threads(int threads, int64_t multiply_adds);

// Dense layout of dimensions given in memory order.
[[nodiscard]] dnnl::memory::desc dense(const dnnl::memory::dims& dims, DType dtype);

// How the residual reaches the primitive.
enum class ResidualMode : uint8_t {
  kNone,
  kBinary,  // an operand of its own, added by the primitive
  kSum,     // copied to the destination first, which the primitive adds to
};

// A primitive's descriptor as far as a call needs it.
struct Described {
  std::string implementation;
  dnnl::memory::desc src, weights, bias, dst, scratchpad;
  ResidualMode residual = ResidualMode::kNone;
  std::function<dnnl::primitive()> create;
  int residual_position = 0;  // of the residual among the post-ops
};

// Copies what a Described needs from a primitive descriptor of oneDNN.
template <class Primitive, class Descriptor>
Described describe(const Descriptor& descriptor, ResidualMode residual) {
  return {descriptor.impl_info_str(),
          descriptor.src_desc(),
          descriptor.weights_desc(),
          descriptor.bias_desc(),
          descriptor.dst_desc(),
          descriptor.scratchpad_desc(),
          residual,
          [descriptor] { return dnnl::primitive(Primitive(descriptor)); },
          descriptor.get_primitive_attr().get_post_ops().len() - 1};
}

// Activation and residual as post-ops; scratch memory comes from the caller.
[[nodiscard]] dnnl::primitive_attr make_attributes(graph::Activation activation,
                                                   ResidualMode residual,
                                                   const dnnl::memory::desc& dst);

// Describes the fastest way to add a residual: as an operand where oneDNN has generated code for
// it, else through the destination. `make` describes for one mode.
[[nodiscard]] Described choose(bool has_residual,
                               const std::function<Described(ResidualMode)>& make);

// Equal texts mean equal layouts.
[[nodiscard]] std::string layout_key(const dnnl::memory::desc& desc);
// Reorders a dense weight whose dimensions in memory order are those of `from`, converting its
// type.
void pack_weight(const VectorOps* ops, const TensorView& weight, const dnnl::memory::desc& from,
                 const dnnl::memory::desc& packed_desc, void* packed);

// Parts of the workspace of a fused call.
struct FusedScratch {
  float* bias;
  std::byte* primitive;
  std::byte *src, *dst;  // converted copies, when asked for
  size_t bytes;

  FusedScratch(const Described& described, int64_t outputs, size_t src_bytes, size_t dst_bytes,
               void* workspace);
};

// Operands of a fused call. Rows are those of the whole batch.
struct FusedOperands {
  Rows x, bias, row_add, residual, y;
  void* weight = nullptr;
  int64_t multiply_adds = 0;
  int64_t batch = 1;  // batch rows that share the primitive's weights
};

// Runs a primitive over dense operands of its own element types; copies pitched operands to memory
// of its own.
class FusedCall {
 public:
  FusedCall(const Described& described, const FusedOperands& operands, const FusedScratch& scratch,
            const DeviceInfo& info);
  void run() const;

 private:
  const VectorOps* ops_;
  int threads_;
  FusedOperands operands_;
  ResidualMode residual_mode_;
  Tensor x_storage_, residual_storage_, y_storage_;  // made before the rows that lie in them
  Rows x_, residual_, y_;                            // dense
  float* bias_;
  dnnl::primitive primitive_;
  mutable dnnl::stream stream_;
  std::vector<std::unordered_map<int, dnnl::memory>> arguments_;  // one a run
};

// y rows = x rows, converted.
void copy_rows(const VectorOps& ops, int threads, const Rows& x, const Rows& y);

}  // namespace halftone::backend::cpu::onednn
