// Convolution by oneDNN: in the element type of its operands, or in f32 with conversions around it
// where the processor has no bf16 arithmetic (oneDNN's emulation is five times slower than f32).
#include <fmt/format.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn/fused_call.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;
using onednn::Described;
using onednn::ResidualMode;

// [n, h, w, c] in memory as oneDNN's n, c, h, w.
dnnl::memory::desc channels_last(const Shape& shape, int64_t batch, DType dtype) {
  return onednn::dense({batch, shape[1], shape[2], shape[3]}, dtype).permute_axes({0, 2, 3, 1});
}

int64_t multiply_adds(const graph::OpDesc& desc) {
  const Shape& weight = desc.input(Role::kWeight)->shape;
  return desc.output().shape.num_elements() * weight[1] * weight[2] * weight[3];
}

// `fused`: bias, row add, activation and residual are the primitive's, else bias alone.
Described describe(const graph::OpDesc& desc, const DeviceInfo& info, DType dtype, bool fused) {
  onednn::use_threads(info.num_units, multiply_adds(desc));
  const auto& op = desc.as<graph::Conv2d>();
  const Shape& x = desc.input(Role::kX)->shape;
  const Shape& weight = desc.input(Role::kWeight)->shape;
  const Shape& y = desc.output().shape;
  const int64_t images = fused && desc.input(Role::kRowAdd) != nullptr ? 1 : x[0];
  const dnnl::memory::desc src = channels_last(x, images, dtype);
  const dnnl::memory::desc dst = channels_last(y, images, dtype);
  const dnnl::memory::desc weights({weight[0], weight[3], weight[1], weight[2]},
                                   onednn::data_type(dtype), dnnl::memory::format_tag::any);
  const dnnl::memory::desc bias = onednn::dense({weight[0]}, DType::kF32);
  const dnnl::convolution_forward::desc convolution(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, src, weights, bias,
      dst, {op.stride, op.stride}, {op.pad_begin, op.pad_begin}, {op.pad_end, op.pad_end});
  const auto make = [&](ResidualMode residual) {
    const auto activation = fused ? op.activation : graph::Activation::kNone;
    const dnnl::convolution_forward::primitive_desc descriptor(
        convolution, onednn::make_attributes(activation, residual, dst), onednn::engine());
    return onednn::describe<dnnl::convolution_forward>(descriptor, residual);
  };
  return onednn::choose(fused && desc.input(Role::kResidual) != nullptr, make);
}

Support supports_shape(const graph::OpDesc& desc) {
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.shape.num_elements() == 0) return Support::no("empty operand");
  }
  return Support::yes();
}

std::string key(const Described& described) { return onednn::layout_key(described.weights); }

void pack(const Described& described, const DeviceInfo& info, const TensorView& weight,
          void* packed) {
  const Shape& shape = weight.type.shape;
  const dnnl::memory::desc from =
      onednn::dense({shape[0], shape[1], shape[2], shape[3]}, DType::kF32)
          .permute_axes({0, 2, 3, 1});
  onednn::pack_weight(vector_ops(info), weight, from, described.weights, packed);
}

onednn::FusedOperands fused_operands(const graph::OpDesc& desc, const Operands& operands) {
  return {.x = find_rows(desc, operands, Role::kX),
          .bias = find_rows(desc, operands, Role::kBias),
          .row_add = find_rows(desc, operands, Role::kRowAdd),
          .residual = find_rows(desc, operands, Role::kResidual),
          .y = Rows(operands.outputs[0]),
          .weight = find_view(desc, operands, Role::kWeight)->data,
          .multiply_adds = multiply_adds(desc),
          .batch = desc.input(Role::kX)->shape[0]};
}

// --- in the operands' own type ---

Described describe_native(const graph::OpDesc& desc, const DeviceInfo& info) {
  return describe(desc, info, desc.output().dtype, true);
}

Support supports_native(const graph::OpDesc& desc, const DeviceInfo& info) {
  const DType dtype = desc.output().dtype;
  if (const Support vector = supports_vector_ops(desc, info); !vector.ok) return vector;
  if (dtype == DType::kF16) return Support::no("f16 is not oneDNN's on this processor");
  if (dtype == DType::kBF16 && !info.has("avx512_bf16") && !info.has("amx_bf16")) {
    return Support::no("bf16 needs AVX512_BF16 or AMX");
  }
  if (desc.input(Role::kWeight)->dtype != dtype) return Support::no("weights of another type");
  const TensorType* residual = desc.input(Role::kResidual);
  if (residual != nullptr && residual->dtype != dtype)
    return Support::no("residual of another type");
  return supports_shape(desc);
}

onednn::FusedScratch native_scratch(const graph::OpDesc& desc, const Described& described,
                                    void* base) {
  return {described, desc.output().shape[3], 0, 0, base};
}

std::unique_ptr<Launch> prepare_native(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config /*config*/, const Operands& operands) {
  const Described described = describe_native(desc, info);
  const auto call = std::make_shared<onednn::FusedCall>(
      described, fused_operands(desc, operands),
      native_scratch(desc, described, operands.workspace), info);
  return make_launch([call] { call->run(); });
}

// --- through f32 ---

Described describe_f32(const graph::OpDesc& desc, const DeviceInfo& info) {
  return describe(desc, info, DType::kF32, false);
}

Support supports_via_f32(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (const Support vector = supports_vector_ops(desc, info); !vector.ok) return vector;
  return supports_shape(desc);
}

onednn::FusedScratch f32_scratch(const graph::OpDesc& desc, const Described& described,
                                 void* base) {
  return {described, desc.output().shape[3], described.src.get_size(), described.dst.get_size(),
          base};
}

// Activation and residual of the f32 rows, rounded into y.
struct Finish {
  graph::Activation activation;
  Rows from, row_add, residual, y;
  int64_t rows_per_image;

  void row(const VectorOps& ops, int64_t r) const {
    constexpr int64_t kPiece = 1024;
    for (int64_t col = 0; col < y.size; col += kPiece) {
      alignas(64) float values[kPiece], others[kPiece];
      const int64_t n = std::min(kPiece, y.size - col);
      ops.load(DType::kF32, from.at(r, col), values, n);
      if (row_add) {
        ops.load(row_add.dtype, row_add.at(r / rows_per_image, col), others, n);
        ops.add(values, others, values, n);
      }
      if (activation != graph::Activation::kNone) ops.activate(activation, values, values, n);
      if (residual) {
        ops.load(residual.dtype, residual.at(r, col), others, n);
        ops.add(values, others, values, n);
      }
      ops.store(values, y.dtype, y.at(r, col), n);
    }
  }
};

std::unique_ptr<Launch> prepare_via_f32(const graph::OpDesc& desc, const DeviceInfo& info,
                                        Config /*config*/, const Operands& operands) {
  const Described described = describe_f32(desc, info);
  const onednn::FusedScratch scratch = f32_scratch(desc, described, operands.workspace);
  onednn::FusedOperands fused = fused_operands(desc, operands);
  const Rows x = fused.x;
  fused.x = Rows(TensorView({DType::kF32, desc.input(Role::kX)->shape}, scratch.src));
  const Rows dst = Rows(TensorView({DType::kF32, desc.output().shape}, scratch.dst));
  const Finish finish{desc.as<graph::Conv2d>().activation,
                      dst,
                      fused.row_add,
                      fused.residual,
                      fused.y,
                      desc.output().shape[1] * desc.output().shape[2]};
  fused.y = dst;
  fused.row_add = {};
  fused.residual = {};
  const Rows wide = fused.x;
  const auto call = std::make_shared<onednn::FusedCall>(described, fused, scratch, info);
  const VectorOps* ops = vector_ops(info);
  return make_launch([=, threads = info.num_units] {
    onednn::copy_rows(*ops, threads, x, wide);
    call->run();
    constexpr int64_t kRows = 16;  // a task's
    parallel_for(threads, divide_up(dst.count, kRows), [&](int64_t task, int) {
      const int64_t last = std::min(dst.count, (task + 1) * kRows);
      for (int64_t r = task * kRows; r < last; ++r) finish.row(*ops, r);
    });
  });
}

// The table of functions for one way to describe the primitive.
template <Described (*kDescribe)(const graph::OpDesc&, const DeviceInfo&),
          onednn::FusedScratch (*kScratch)(const graph::OpDesc&, const Described&, void*)>
Kernel convolution_kernel(std::string_view name, decltype(Kernel::supports) supports,
                          decltype(Kernel::prepare) prepare) {
  Kernel kernel = plain_kernel(name, graph::OpKind::kConv2d, supports, prepare);
  kernel.workspace_bytes = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    return kScratch(desc, kDescribe(desc, info), nullptr).bytes;
  };
  kernel.packed_bytes = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    return kDescribe(desc, info).weights.get_size();
  };
  kernel.pack_key = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    return key(kDescribe(desc, info));
  };
  kernel.pack = [](const graph::OpDesc& desc, const DeviceInfo& info, Config,
                   const TensorView& weight,
                   void* packed) { pack(kDescribe(desc, info), info, weight, packed); };
  return kernel;
}

}  // namespace

const Kernel conv2d_onednn = convolution_kernel<describe_native, native_scratch>(
    "cpu.conv2d.onednn", supports_native, prepare_native);
const Kernel conv2d_onednn_via_f32 = convolution_kernel<describe_f32, f32_scratch>(
    "cpu.conv2d.onednn.via_f32", supports_via_f32, prepare_via_f32);

}  // namespace halftone::backend::cpu
