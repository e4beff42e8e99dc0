// Linears of the graph on the kernels for few tokens.
#include <fmt/format.h>

#include "backend/cuda/call.h"
#include "backend/cuda/hopper/element_of.h"
#include "backend/cuda/hopper/few_tokens.h"
#include "backend/cuda/kernels.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;
using hopper::Element;
using hopper::FewTokens;
using hopper::FewTokensProblem;

bool is_16_bits(const TensorType& type) {
  return type.dtype == DType::kF16 || type.dtype == DType::kBF16;
}

Support supports_operands(const graph::OpDesc& desc) {
  for (const Role role :
       {Role::kXScale, Role::kYScale, Role::kXZero, Role::kRowAdd, Role::kRowStatistics}) {
    if (desc.input(role) != nullptr) {
      return Support::no(fmt::format("takes no {}", graph::to_string(role)));
    }
  }
  const TensorType* bias = desc.input(Role::kBias);
  if (bias != nullptr && !is_plain_float(bias->dtype)) return Support::no("wants a plain bias");
  const TensorType* residual = desc.input(Role::kResidual);
  if (residual != nullptr && residual->dtype != desc.output().dtype) {
    return Support::no("the residual's type is not y's");
  }
  return Support::yes();
}

// What weights of 16 and of 8 bits share.
Support supports_either(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("sm_90a")) return Support::no("needs compute capability 9.0");
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  const TensorType& y = desc.output();
  if (!is_16_bits(x) || y.dtype != x.dtype) return Support::no("wants x and y of the same 16 bits");
  if (desc.as<graph::Linear>().geglu) return Support::no("no GEGLU");
  if (Support operands = supports_operands(desc); !operands.ok) return operands;
  if (y.shape.num_elements() == 0 || weight.shape[1] == 0) return Support::no("nothing to compute");
  if (y.shape.num_rows() > hopper::kMostTokens) return Support::no("wants few rows");
  if (weight.shape[0] % 8 != 0 || weight.shape[1] % 8 != 0) {
    return Support::no("wants multiples of 8 inputs and outputs");
  }
  if (weight.shape[1] > int64_t{1} << 24) return Support::no("too many inputs");
  return Support::yes();
}

Support supports_few_tokens(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support either = supports_either(desc, info); !either.ok) return either;
  const TensorType& weight = *desc.input(Role::kWeight);
  if (weight.dtype != desc.output().dtype) return Support::no("wants a weight of y's 16 bits");
  // A block has one tile, so the last kernels of a tile size, pairs of blocks for 128 channels,
  // must have room for all pairs at once.
  if ((weight.shape[0] + 127) / 128 * 2 > info.num_units) return Support::no("wants fewer outputs");
  return Support::yes();
}

Support supports_few_tokens_codes(const graph::OpDesc& desc, const DeviceInfo& info) {
  const TensorType& weight = *desc.input(Role::kWeight);
  if (weight.dtype != DType::kI8 && weight.dtype != DType::kF8E4M3) {
    return Support::no("wants a weight in i8 or f8e4m3");
  }
  if (Support either = supports_either(desc, info); !either.ok) return either;
  if (weight.shape[1] % 16 != 0) return Support::no("wants multiples of 16 inputs");
  if (weight.shape[0] > int64_t{1} << 20) return Support::no("too many outputs");
  return Support::yes();
}

FewTokensProblem problem_of(const graph::OpDesc& desc, const DeviceInfo& info,
                            const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& weight = *find_view(desc, operands, Role::kWeight);
  const TensorView* bias = find_view(desc, operands, Role::kBias);
  const TensorView* residual = find_view(desc, operands, Role::kResidual);
  FewTokensProblem p;
  p.element = *hopper::element_of(x.type.dtype);
  if (const TensorView* scale = find_view(desc, operands, Role::kWScale)) {
    p.codes = hopper::element_of(weight.type.dtype);
    p.scale = scale->as<float>();
  }
  p.m = static_cast<int>(x.type.shape.num_rows());
  p.n = static_cast<int>(weight.type.shape[0]);
  p.k = static_cast<int>(weight.type.shape[1]);
  p.x_pitch = static_cast<int>(x.row_pitch);
  p.y_pitch = static_cast<int>(operands.outputs[0].row_pitch);
  p.x = x.data;
  p.weight = weight.data;
  p.y = operands.outputs[0].data;
  if (bias != nullptr) {
    p.bias = bias->data;
    p.bias_element = hopper::element_of(bias->type.dtype).value_or(Element::kF32);
  }
  if (residual != nullptr) {
    p.residual = residual->data;
    p.residual_pitch = static_cast<int>(residual->row_pitch);
  }
  p.activation = static_cast<hopper::Activation>(desc.as<graph::Linear>().activation);
  p.constant_weight = is_constant(desc, operands, Role::kWeight);
  p.num_sms = static_cast<int>(info.num_units);
  return p;
}

std::unique_ptr<Launch> prepare_few_tokens(const graph::OpDesc& desc, const DeviceInfo& info,
                                           Config /*config*/, const Operands& operands) {
  const FewTokensProblem problem = problem_of(desc, info, operands);
  return make_launch([bound = FewTokens(hopper::choose_few_tokens(problem), problem)](
                         cudaStream_t stream) { bound.launch(stream); });
}

}  // namespace

const Kernel linear_few_tokens =
    plain_kernel("cuda.linear.few_tokens.hopper", graph::OpKind::kLinear, supports_few_tokens,
                 prepare_few_tokens);
const Kernel linear_few_tokens_codes =
    plain_kernel("cuda.linear.few_tokens_codes.hopper", graph::OpKind::kLinear,
                 supports_few_tokens_codes, prepare_few_tokens);

}  // namespace halftone::backend::cuda
