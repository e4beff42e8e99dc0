// Quantized operands that no matrix kernel takes: floating rows by integer weights as a library's
// product of the codes, which 16-bit types hold exactly; any shape and any codes, slowly.
#include "backend/cuda/quantized_matrix.h"

#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/context.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/libraries/matmul.h"
#include "backend/cuda/quantize.h"
#include "tensor/quantized.h"

namespace halftone::backend::cuda {

using graph::Role;

Support supports_quantized(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  if (desc.input(Role::kWScale) == nullptr) return Support::no("wants a quantized weight");
  if (desc.input(Role::kXZero) != nullptr) return Support::no("wants symmetric inputs");
  if (graph::is_interleaved(desc)) return Support::no("does not interleave");
  for (const Role role : {Role::kBias, Role::kRowAdd, Role::kResidual}) {
    const TensorType* type = desc.input(role);
    if (type != nullptr && !is_plain_float(type->dtype)) {
      return Support::no("wants floating bias, row add and residual");
    }
  }
  return Support::yes();
}

int64_t weight_rows(const graph::OpDesc& desc) { return desc.input(Role::kWeight)->shape[0]; }

QuantizedMatrixArgs matrix_args(const graph::OpDesc& desc, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& weight = *find_view(desc, operands, Role::kWeight);
  const Shape& xs = x.type.shape;
  const Shape& y = desc.output().shape;
  QuantizedMatrixArgs args;
  args.x = typed(x);
  args.weight = weight.data;
  args.in = xs.row_size();
  const int64_t bits = weight.type.dtype == DType::kU8
                           ? 8 * weight.type.shape.row_size() / std::max<int64_t>(args.in, 1)
                           : 8;
  args.weight_format = code_format(weight.type.dtype, bits, false);
  args.weight_scale = find_view(desc, operands, Role::kWScale)->as<float>();
  if (const TensorView* scale = find_view(desc, operands, Role::kXScale)) {
    args.x_scale = scale->as<float>();
    args.rows_per_scale = rows_per_scale(scale->type, y.num_rows());
  }
  args.y = static_cast<float*>(operands.workspace);
  args.n = xs.num_rows();
  args.out = weight_rows(desc);
  if (const auto* conv = std::get_if<graph::Conv2d>(&desc.attrs)) {
    args.n = xs[0];
    args.h = xs[1];
    args.w = xs[2];
    args.out_h = y[1];
    args.out_w = y[2];
    args.kernel_h = weight.type.shape[1];
    args.kernel_w = weight.type.shape[2];
    args.stride = conv->stride;
    args.pad = conv->pad_begin;
  }
  return args;
}

int capability(const DeviceInfo& info) {
  return info.arch.starts_with("sm_") ? std::stoi(info.arch.substr(3)) : 0;
}

std::string shape_key(const graph::OpDesc& desc, const QuantizedMatrixArgs& m) {
  const auto* linear = std::get_if<graph::Linear>(&desc.attrs);
  const auto activation =
      linear != nullptr ? linear->activation : desc.as<graph::Conv2d>().activation;
  return fmt::format("{}x{}x{}x{}x{}/{}x{},{},{}/{}{}{}{}/{}{}{}/sm{}", m.n, m.h, m.w, m.out, m.in,
                     m.kernel_h, m.kernel_w, m.stride, m.pad, to_string(m.x.dtype),
                     to_string(m.weight_format.dtype), m.weight_format.bits,
                     to_string(desc.output().dtype), linear != nullptr && linear->geglu ? 'g' : '-',
                     static_cast<int>(activation),
                     desc.input(Role::kResidual) != nullptr ? 'r' : '-', context().num_sms);
}

namespace {

size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

// The sums, then the float result where it is quantized again.
size_t sum_bytes(const graph::OpDesc& desc) {
  return rounded(static_cast<size_t>(desc.output().shape.num_rows() * weight_rows(desc)) *
                 sizeof(float));
}
size_t workspace_quantized(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                           Config /*config*/) {
  const size_t result = static_cast<size_t>(desc.output().shape.num_elements()) * sizeof(float);
  return sum_bytes(desc) + (desc.input(Role::kYScale) != nullptr ? result : 0);
}

// What follows the scaled sums: the epilogue, and codes where the output is quantized.
struct Ending {
  EpilogueArgs epilogue;
  QuantizeArgs after;
};

Ending ending_of(const graph::OpDesc& desc, const Operands& operands, const float* sums) {
  Ending end;
  end.epilogue = epilogue_of(desc, operands, {sums, DType::kF32});
  if (const TensorView* y_scale = find_view(desc, operands, Role::kYScale)) {
    auto* result = static_cast<std::byte*>(operands.workspace) + sum_bytes(desc);
    end.epilogue.y = {result, DType::kF32};
    QuantizeArgs& after = end.after;
    after.x = {result, DType::kF32};
    after.y = operands.outputs[0].data;
    after.format = code_format(desc.output().dtype, 8, false);
    after.scale_in = y_scale->as<float>();
    after.rows = after.rows_per_scale = desc.output().shape.num_rows();
    after.cols = desc.output().shape.row_size();
  }
  return end;
}

void launch_ending(const Ending& end, cudaStream_t stream) {
  launch_epilogue(end.epilogue, stream);
  if (end.after.y != nullptr) launch_quantize(end.after, stream);
}

std::unique_ptr<Launch> prepare_quantized(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                          Config /*config*/, const Operands& operands) {
  const QuantizedMatrixArgs args = matrix_args(desc, operands);
  const Ending end = ending_of(desc, operands, args.y);
  return make_launch([=](cudaStream_t stream) {
    if (end.epilogue.rows * end.epilogue.cols == 0) return;
    launch_quantized_matrix(args, stream);
    launch_ending(end, stream);
  });
}

constexpr size_t kLibraryWorkspace = size_t{16} << 20;

// --- Codes by codes, through cuBLASLt

Support supports_codes(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("cublaslt")) return Support::no("needs cuBLASLt (libcublasLt)");
  if (Support base = supports_quantized(desc, info); !base.ok) return base;
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  if (x.dtype != weight.dtype || (x.dtype != DType::kI8 && x.dtype != DType::kF8E4M3)) {
    return Support::no("wants x and weight in i8 or f8e4m3");
  }
  if (x.dtype == DType::kF8E4M3 && capability(info) < kFirstWithF8) {
    return Support::no("f8e4m3 needs compute capability 8.9");
  }
  if (desc.input(Role::kXScale) == nullptr) return Support::no("wants a scale of x");
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  if (weight_rows(desc) % 16 != 0 || x.shape.row_size() % 16 != 0 || x.shape.num_rows() % 16 != 0) {
    return Support::no("wants multiples of 16 rows, inputs and outputs");
  }
  return Support::yes();
}

size_t workspace_codes(const graph::OpDesc& desc, const DeviceInfo& info, Config config) {
  return kLibraryWorkspace + workspace_quantized(desc, info, config);
}

std::unique_ptr<Launch> prepare_codes(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  Operands rest = operands;
  rest.workspace = static_cast<std::byte*>(operands.workspace) + kLibraryWorkspace;
  const QuantizedMatrixArgs matrix = matrix_args(desc, rest);
  const bool integers = matrix.x.dtype == DType::kI8;
  MatmulArgs product;
  product.dtype = matrix.x.dtype;
  product.rows = matrix.n;
  product.in = product.x_pitch = product.weight_pitch = matrix.in;
  product.out = product.y_pitch = matrix.out;
  product.x = matrix.x.data;
  product.weight = matrix.weight;
  product.y = matrix.y;
  product.y_dtype = integers ? DType::kI32 : DType::kF32;
  product.workspace = operands.workspace;
  product.workspace_bytes = kLibraryWorkspace;
  ScaleSumsArgs scale;
  scale.sums = matrix.y;
  scale.integers = integers;
  scale.row_scale = matrix.x_scale;
  scale.column_scale = matrix.weight_scale;
  scale.rows = matrix.n;
  scale.cols = matrix.out;
  scale.rows_per_scale = matrix.rows_per_scale;
  const Ending end = ending_of(desc, rest, matrix.y);
  return make_launch([=, matmul = Matmul(product)](cudaStream_t stream) {
    matmul.enqueue(stream);
    launch_scale_sums(scale, stream);
    launch_ending(end, stream);
  });
}

// --- Floating x, through cuBLASLt

Support supports_weight_only(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("cublaslt")) return Support::no("needs cuBLASLt (libcublasLt)");
  if (Support base = supports_quantized(desc, info); !base.ok) return base;
  const TensorType& x = *desc.input(Role::kX);
  if (x.dtype != DType::kF16 && x.dtype != DType::kBF16) return Support::no("wants f16 or bf16");
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  if (weight_rows(desc) % 8 != 0 || x.shape.row_size() % 8 != 0) {
    return Support::no("wants multiples of 8 inputs and outputs");
  }
  return Support::yes();
}

// The library's scratch and the codes as floats; then as the plain kernel's.
size_t code_bytes(const graph::OpDesc& desc) {
  const TensorType& x = *desc.input(Role::kX);
  return rounded(static_cast<size_t>(weight_rows(desc) * x.shape.row_size()) * size_of(x.dtype));
}
size_t workspace_weight_only(const graph::OpDesc& desc, const DeviceInfo& info, Config config) {
  return kLibraryWorkspace + code_bytes(desc) + workspace_quantized(desc, info, config);
}

std::unique_ptr<Launch> prepare_weight_only(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                            Config /*config*/, const Operands& operands) {
  auto* base = static_cast<std::byte*>(operands.workspace);
  Operands rest = operands;
  rest.workspace = base + kLibraryWorkspace + code_bytes(desc);
  const QuantizedMatrixArgs matrix = matrix_args(desc, rest);
  DequantizeArgs unpack;
  unpack.x = matrix.weight;
  unpack.format = matrix.weight_format;
  unpack.y = {base + kLibraryWorkspace, matrix.x.dtype};
  unpack.rows = matrix.out;
  unpack.cols = matrix.in;
  MatmulArgs product;
  product.dtype = matrix.x.dtype;
  product.rows = matrix.n;
  product.in = product.x_pitch = product.weight_pitch = matrix.in;
  product.out = product.y_pitch = matrix.out;
  product.x = matrix.x.data;
  product.weight = unpack.y.data;
  product.y = matrix.y;
  product.y_dtype = DType::kF32;
  product.workspace = base;
  product.workspace_bytes = kLibraryWorkspace;
  ScaleArgs scale;
  scale.x = scale.gamma = {matrix.y, DType::kF32};
  scale.gamma.data = matrix.weight_scale;
  scale.y = {matrix.y, DType::kF32};
  scale.count = matrix.n * matrix.out;
  scale.extent = matrix.out;
  const Ending end = ending_of(desc, rest, matrix.y);
  return make_launch([=, matmul = Matmul(product)](cudaStream_t stream) {
    launch_dequantize(unpack, stream);
    matmul.enqueue(stream);
    launch_scale(scale, stream);
    launch_ending(end, stream);
  });
}

}  // namespace

const Kernel linear_codes_cublaslt =
    plain_kernel("cuda.linear.codes.cublaslt", graph::OpKind::kLinear, supports_codes,
                 prepare_codes, workspace_codes);
const Kernel linear_weight_only =
    plain_kernel("cuda.linear.weight_only.cublaslt", graph::OpKind::kLinear, supports_weight_only,
                 prepare_weight_only, workspace_weight_only);
const Kernel linear_quantized_plain =
    plain_kernel("cuda.linear.quantized.plain", graph::OpKind::kLinear, supports_quantized,
                 prepare_quantized, workspace_quantized);
const Kernel conv2d_quantized_plain =
    plain_kernel("cuda.conv2d.quantized.plain", graph::OpKind::kConv2d, supports_quantized,
                 prepare_quantized, workspace_quantized);

}  // namespace halftone::backend::cuda
