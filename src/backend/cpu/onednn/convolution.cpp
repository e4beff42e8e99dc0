// Convolution by oneDNN: in the element type of its operands, or in f32 with conversions around it
// where the processor has no bf16 arithmetic (oneDNN's emulation is five times slower than f32),
// and for quantized operands that have no kernel of their own: codes as their plain values, scaled
// at the end, so f8e4m3 is simulated exactly.
#include <fmt/format.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn/fused_call.h"
#include "backend/cpu/parallel.h"
#include "tensor/quantized.h"

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
  return desc.output().shape.num_elements() * weight[1] * weight[2] *
         desc.input(Role::kX)->shape[3];
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
  const dnnl::memory::desc weights({weight[0], x[3], weight[1], weight[2]},
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
  if (graph::is_interleaved(desc)) return Support::no("does not interleave");
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

// The weight's codes as f32.
Tensor decode(const VectorOps& ops, const TensorView& weight, int64_t channels) {
  Shape shape = weight.type.shape;
  shape[-1] = channels;
  Tensor values({DType::kF32, shape});
  const Rows from(weight);
  const Rows to(values.view());
  const int64_t bits = from.size * 8 / std::max<int64_t>(channels, 1);
  for (int64_t row = 0; row < to.count; ++row) {
    auto* y = reinterpret_cast<float*>(to.at(row));
    if (from.dtype != DType::kU8) {
      ops.load(from.dtype, from.at(row), y, channels);
      continue;
    }
    const auto* packed = reinterpret_cast<const uint8_t*>(from.at(row));
    for (int64_t i = 0; i < channels; ++i) y[i] = static_cast<float>(packed_at(packed, i, bits));
  }
  return values;
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
  const Shape& weight = desc.input(Role::kWeight)->shape;
  if (info.has("amx_bf16") && weight[1] * weight[2] == 1) {
    return Support::no("oneDNN 2.6 writes beyond the output of 1x1 convolutions on AMX");
  }
  const Shape& y = desc.output().shape;
  if (dtype == DType::kBF16 && weight[1] * weight[2] == 1 && y[1] * y[2] == 5) {
    return Support::no("oneDNN 2.6 gives wrong sums in 1x1 convolutions of bf16 to five pixels");
  }
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
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  for (const graph::TypedOperand& operand : desc.inputs) {
    const bool product = operand.role == Role::kX || operand.role == Role::kWeight;
    if (is_vector_type(operand.type.dtype) || (product && graph::is_quantized(operand.type.dtype)))
      continue;
    return Support::no(fmt::format("no {}", to_string(operand.type)));
  }
  if (desc.input(Role::kX)->dtype == DType::kI8) return Support::no("int8 sums are not exact here");
  return supports_shape(desc);
}

// f32 copies of what the primitive reads and writes, and per-output values for what follows it.
struct WideScratch {
  onednn::FusedScratch fused;
  float *bias, *w_scale, *row_add;
  size_t bytes;

  WideScratch(const graph::OpDesc& desc, const Described& described, void* base)
      : fused(described, desc.output().shape[3], described.src.get_size(), described.dst.get_size(),
              base) {
    constexpr int64_t kRoom = 64;  // whole vectors beyond the last output, in dst too
    Scratch scratch(base);
    scratch.take<std::byte>(static_cast<int64_t>(fused.bytes));
    scratch.take<float>(kRoom);
    const int64_t outputs = desc.output().shape[3];
    bias = scratch.take<float>(outputs + kRoom);
    w_scale = scratch.take<float>(outputs + kRoom);
    row_add = scratch.take<float>(desc.output().shape[0] * outputs + kRoom);
    bytes = scratch.used_bytes();
  }
};

// What follows the f32 sums: scales, bias (the primitive adds it where there are no scales), row
// add, activation, residual, rounding or quantization.
struct Finish {
  const VectorOps* ops;
  WideScratch scratch;
  PanelFinish finish;
  Rows bias, row_add, residual, x_scale, w_scale, y_scale, y;
  int64_t rows_per_image;

  void load_columns() const {
    if (bias) ops->load(bias.dtype, bias.data, scratch.bias, y.size);
    if (w_scale) ops->load(w_scale.dtype, w_scale.data, scratch.w_scale, y.size);
    for (int64_t n = 0; n < row_add.count; ++n) {
      ops->load(row_add.dtype, row_add.at(n), scratch.row_add + n * y.size, y.size);
    }
  }
  void row(int64_t r) const {
    PanelFinish f = finish;
    f.sums[0] = reinterpret_cast<const float*>(scratch.fused.dst) + r * y.size;
    if (bias) f.bias[0] = scratch.bias;
    if (w_scale) f.w_scale[0] = scratch.w_scale;
    if (row_add) f.row_add[0] = scratch.row_add + r / rows_per_image * y.size;
    if (x_scale) f.x_scale = reinterpret_cast<const float*>(x_scale.data);
    if (y_scale) f.inverse = 1.0F / *reinterpret_cast<const float*>(y_scale.data);
    if (residual) f.residual = residual.at(r);
    f.y = y.at(r);
    ops->finisher(f)(f, 1, y.size);
  }
};

Finish make_finish(const graph::OpDesc& desc, const DeviceInfo& info, const WideScratch& scratch,
                   const Operands& operands) {
  Finish finish{.ops = vector_ops(info),
                .scratch = scratch,
                .finish = {},
                .bias = {},
                .row_add = find_rows(desc, operands, Role::kRowAdd),
                .residual = find_rows(desc, operands, Role::kResidual),
                .x_scale = find_rows(desc, operands, Role::kXScale),
                .w_scale = find_rows(desc, operands, Role::kWScale),
                .y_scale = find_rows(desc, operands, Role::kYScale),
                .y = Rows(operands.outputs[0]),
                .rows_per_image = desc.output().shape[1] * desc.output().shape[2]};
  if (finish.w_scale) finish.bias = find_rows(desc, operands, Role::kBias);
  finish.finish.activation = desc.as<graph::Conv2d>().activation;
  finish.finish.residual_type = finish.residual.dtype;
  finish.finish.out = finish.y.dtype;
  return finish;
}

std::unique_ptr<Launch> prepare_via_f32(const graph::OpDesc& desc, const DeviceInfo& info,
                                        Config /*config*/, const Operands& operands) {
  const Described described = describe_f32(desc, info);
  const WideScratch scratch(desc, described, operands.workspace);
  onednn::FusedOperands fused = fused_operands(desc, operands);
  const Rows x = fused.x;
  fused.x = Rows(TensorView({DType::kF32, desc.input(Role::kX)->shape}, scratch.fused.src));
  const Rows dst = Rows(TensorView({DType::kF32, desc.output().shape}, scratch.fused.dst));
  const Finish finish = make_finish(desc, info, scratch, operands);
  if (finish.w_scale) fused.bias = {};
  fused.y = dst;
  fused.row_add = {};
  fused.residual = {};
  const Rows wide = fused.x;
  const auto call = std::make_shared<onednn::FusedCall>(described, fused, scratch.fused, info);
  return make_launch([=, threads = info.num_units] {
    onednn::copy_rows(*finish.ops, threads, x, wide);
    call->run();
    finish.load_columns();
    constexpr int64_t kRows = 16;  // a task's
    parallel_for(threads, divide_up(dst.count, kRows), [&](int64_t task, int) {
      const int64_t last = std::min(dst.count, (task + 1) * kRows);
      for (int64_t r = task * kRows; r < last; ++r) finish.row(r);
    });
  });
}

// The table of functions for one way to describe the primitive.
template <Described (*kDescribe)(const graph::OpDesc&, const DeviceInfo&), class ScratchOf>
Kernel convolution_kernel(std::string_view name, decltype(Kernel::supports) supports,
                          decltype(Kernel::prepare) prepare, ScratchOf /*scratch_of*/) {
  Kernel kernel = plain_kernel(name, graph::OpKind::kConv2d, supports, prepare);
  kernel.workspace_bytes = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    return ScratchOf{}(desc, kDescribe(desc, info)).bytes;
  };
  kernel.packed_bytes = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    return kDescribe(desc, info).weights.get_size();
  };
  kernel.pack_key = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    return key(kDescribe(desc, info));
  };
  kernel.pack = [](const graph::OpDesc& desc, const DeviceInfo& info, Config,
                   const TensorView& weight, void* packed) {
    const Described described = kDescribe(desc, info);
    if (!graph::is_quantized(weight.type.dtype)) return pack(described, info, weight, packed);
    const Tensor values = decode(*vector_ops(info), weight, desc.input(Role::kX)->shape[3]);
    pack(described, info, values.view(), packed);
  };
  return kernel;
}

}  // namespace

const Kernel conv2d_onednn =
    convolution_kernel<describe_native>("cpu.conv2d.onednn", supports_native, prepare_native,
                                        [](const graph::OpDesc& desc, const Described& described) {
                                          return native_scratch(desc, described, nullptr);
                                        });
const Kernel conv2d_onednn_via_f32 =
    convolution_kernel<describe_f32>("cpu.conv2d.onednn.via_f32", supports_via_f32, prepare_via_f32,
                                     [](const graph::OpDesc& desc, const Described& described) {
                                       return WideScratch(desc, described, nullptr);
                                     });

}  // namespace halftone::backend::cpu
