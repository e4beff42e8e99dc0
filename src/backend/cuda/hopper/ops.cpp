// Linear, convolution and attention of the graph on the kernel family.
#include <optional>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/call.h"
#include "backend/cuda/context.h"
#include "backend/cuda/hopper/attention.h"
#include "backend/cuda/hopper/gemm.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/measure.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;
using hopper::Element;
using hopper::Gemm;
using hopper::GemmShape;

constexpr size_t kMeasured = 4;       // the estimate's favourites that are timed
constexpr double kWorthwhile = 0.98;  // a later one must win by this much
// Plain 16-bit linears that beat the library: many short tiles, whose epilogues hide.
constexpr double kLinearWaves = 3;
constexpr int64_t kLinearChannels = 640;
constexpr double kSmallestShare = 0.45;  // of a wave of tiles, in 16 bits

std::optional<Element> element_of(DType dtype) {
  switch (dtype) {
    case DType::kI8:
      return Element::kS8;
    case DType::kF8E4M3:
      return Element::kE4M3;
    case DType::kF16:
      return Element::kF16;
    case DType::kBF16:
      return Element::kBF16;
    default:
      return std::nullopt;
  }
}

bool is_quantized(Element element) { return hopper::bytes_of(element) == 1; }

GemmShape shape_of(const graph::OpDesc& desc) {
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  const TensorType& y = desc.output();
  GemmShape s;
  s.in = *element_of(x.dtype);
  s.out = *element_of(y.dtype);
  s.m = y.shape.num_rows();
  s.n = y.shape.row_size();
  s.channels = x.shape.row_size();
  s.residual = desc.input(Role::kResidual) != nullptr;
  if (const auto* op = std::get_if<graph::Conv2d>(&desc.attrs)) {
    s.conv = true;
    s.activated = op->activation != graph::Activation::kNone;
    s.images = x.shape[0];
    s.in_h = x.shape[1];
    s.in_w = x.shape[2];
    s.out_h = y.shape[1];
    s.out_w = y.shape[2];
    s.kernel_h = weight.shape[1];
    s.kernel_w = weight.shape[2];
    s.stride = op->stride;
    s.pad = op->pad_begin;
    // A 1x1 convolution is a linear over pixels.
    if (s.kernel_h * s.kernel_w == 1 && s.stride == 1 && s.out_h == s.in_h && s.pad == 0 &&
        desc.input(Role::kRowAdd) == nullptr) {
      s.conv = false;
    }
  } else {
    const auto& linear = desc.as<graph::Linear>();
    s.geglu = linear.geglu;
    s.activated = linear.activation != graph::Activation::kNone;
  }
  s.x_pitch = s.channels * hopper::bytes_of(s.in);
  s.y_pitch = s.n * hopper::bytes_of(s.out);
  s.residual_pitch = s.y_pitch;
  return s;
}

int64_t rows_per_image(const graph::OpDesc& desc) {
  const Shape& y = desc.output().shape;
  return y.rank() > 1 && y[0] > 0 ? y.num_rows() / y[0] : 1;
}

Support supports_types(const graph::OpDesc& desc) {
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  const TensorType& y = desc.output();
  if (!element_of(x.dtype) || !element_of(y.dtype)) return Support::no("wants 8 or 16 bits");
  if (weight.dtype != x.dtype) return Support::no("x and weight differ in type");
  if (desc.input(Role::kXZero) != nullptr) return Support::no("wants symmetric inputs");
  if (is_quantized(*element_of(y.dtype)) && !is_quantized(*element_of(x.dtype))) {
    return Support::no("requantizes only what was quantized");
  }
  for (const Role role : {Role::kBias, Role::kRowAdd}) {
    const TensorType* type = desc.input(role);
    if (type != nullptr && !is_plain_float(type->dtype)) {
      return Support::no(fmt::format("{} is {}", graph::to_string(role), to_string(type->dtype)));
    }
  }
  const TensorType* residual = desc.input(Role::kResidual);
  if (residual != nullptr && residual->dtype != y.dtype) {
    return Support::no("the residual's type is not y's");
  }
  return Support::yes();
}

Support supports_hopper(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("sm_90a")) return Support::no("needs compute capability 9.0");
  if (Support types = supports_types(desc); !types.ok) return types;
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  const GemmShape shape = shape_of(desc);
  if (desc.input(Role::kRowAdd) != nullptr && (!shape.conv || rows_per_image(desc) % 64 != 0)) {
    return Support::no("takes a row add in convolutions with a multiple of 64 pixels an image");
  }
  if (const std::string reason = hopper::unsupported_reason(shape); !reason.empty()) {
    return Support::no(reason);
  }
  if (!is_quantized(shape.in)) {
    const double waves = static_cast<double>(shape.m) / 128.0 * static_cast<double>(shape.n) /
                         (shape.geglu ? 80.0 : 160.0) / info.num_units;
    const bool plain = !shape.conv && !shape.geglu;
    if (plain && (waves < kLinearWaves || shape.channels > kLinearChannels)) {
      return Support::no("the library is as fast");
    }
    if (waves < kSmallestShare) return Support::no("too small: the library splits K");
  }
  return Support::yes();
}

hopper::EpilogueArgs hopper_epilogue(const graph::OpDesc& desc, const Operands& operands) {
  hopper::EpilogueArgs e;
  const auto address = [&](Role role) {
    const TensorView* view = find_view(desc, operands, role);
    return view == nullptr ? nullptr : view->data;
  };
  const auto element = [&](Role role) {
    const TensorType* type = desc.input(role);
    return type == nullptr ? Element::kF32 : element_of(type->dtype).value_or(Element::kF32);
  };
  e.row_scale = static_cast<const float*>(address(Role::kXScale));
  const TensorType* x_scale = desc.input(Role::kXScale);
  e.row_scale_step = x_scale != nullptr && x_scale->shape.num_elements() > 1 ? 1 : 0;
  e.column_scale = static_cast<const float*>(address(Role::kWScale));
  e.y_scale = static_cast<const float*>(address(Role::kYScale));
  e.bias = address(Role::kBias);
  e.bias_element = element(Role::kBias);
  e.row_add = address(Role::kRowAdd);
  e.row_add_element = element(Role::kRowAdd);
  e.rows_per_image = static_cast<int>(rows_per_image(desc));
  const auto* conv = std::get_if<graph::Conv2d>(&desc.attrs);
  e.activation = static_cast<hopper::Activation>(
      conv != nullptr ? conv->activation : desc.as<graph::Linear>().activation);
  return e;
}

std::string key_of(const GemmShape& s, const hopper::EpilogueArgs& e) {
  return fmt::format("hopper2/{}x{}x{}/{}{}{}/{}{}{}/{},{},{},{}/{},{},{},{}/sm{}", s.m, s.n,
                     s.channels, static_cast<int>(s.in), static_cast<int>(s.out),
                     e.row_scale_step != 0 ? 't' : '-', s.conv ? 'c' : 'l', s.geglu ? 'g' : '-',
                     s.residual ? 'r' : '-', s.in_h, s.in_w, s.kernel_h, s.kernel_w, s.stride,
                     s.pad, s.x_pitch, s.y_pitch, context().num_sms);
}

// The fastest of the estimate's favourites, by measurement or from the cache.
Gemm choose(const GemmShape& shape, const hopper::GemmAddresses& addresses,
            const hopper::EpilogueArgs& epilogue) {
  const int sms = context().num_sms;
  const std::span<const hopper::GemmKernel> all = hopper::gemm_kernels();
  std::vector<uint16_t> order = hopper::candidates(shape, sms);
  const std::string key = key_of(shape, epilogue);
  if (const auto known = context().tuning.find(key)) {
    for (const uint16_t i : order) {
      if (all[i].name() == *known) return {shape, all[i], addresses, epilogue, sms};
    }
  }
  if (order.size() > kMeasured) order.resize(kMeasured);
  std::optional<Gemm> best;
  double best_ms = 0;
  for (const uint16_t i : order) {
    Gemm gemm(shape, all[i], addresses, epilogue, sms);
    const double ms = measure_ms([&] { gemm.launch(context().stream); });
    if (best && ms >= best_ms * kWorthwhile) continue;
    best = gemm;
    best_ms = ms;
    context().tuning.insert(key, all[i].name());
  }
  return *best;
}

std::unique_ptr<Launch> prepare_hopper(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  GemmShape shape = shape_of(desc);
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& y = operands.outputs[0];
  const TensorView* residual = find_view(desc, operands, Role::kResidual);
  shape.x_pitch = x.row_pitch * hopper::bytes_of(shape.in);
  shape.y_pitch = y.row_pitch * hopper::bytes_of(shape.out);
  hopper::GemmAddresses addresses;
  addresses.x = x.data;
  addresses.weight = find_view(desc, operands, Role::kWeight)->data;
  addresses.y = y.data;
  if (residual != nullptr) {
    addresses.residual = residual->data;
    shape.residual_pitch = residual->row_pitch * hopper::bytes_of(shape.out);
  }
  return make_launch([gemm = choose(shape, addresses, hopper_epilogue(desc, operands))](
                         cudaStream_t stream) { gemm.launch(stream, true); });
}

Support supports_attention(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("sm_90a")) return Support::no("needs compute capability 9.0");
  const auto& op = desc.as<graph::Attention>();
  if (graph::is_quantized(op, desc.inputs)) return Support::no("no 8-bit attention");
  const TensorType& y = desc.output();
  if (y.dtype != DType::kF16 && y.dtype != DType::kBF16) return Support::no("wants f16 or bf16");
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.dtype != y.dtype) return Support::no("operands differ in type");
    if (operand.type.shape.num_elements() == 0) return Support::no("nothing to compute");
  }
  if (y.shape[2] != op.heads * hopper::kHeadDim) return Support::no("wants heads of 64 channels");
  if (op.causal) return Support::no("no causal mask");
  if (!(op.scale > 0)) return Support::no("wants a positive scale");
  constexpr int64_t kMaxBlocks = 65535;
  if (op.heads > kMaxBlocks || y.shape[0] > kMaxBlocks) return Support::no("too many heads");
  return Support::yes();
}

std::unique_ptr<Launch> prepare_attention(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                          Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Attention>();
  const TensorView& q = *find_view(desc, operands, Role::kQ);
  const TensorView& k = *find_view(desc, operands, Role::kK);
  const TensorView& v = *find_view(desc, operands, Role::kV);
  const TensorView& y = operands.outputs[0];
  hopper::AttentionProblem problem;
  problem.element = *element_of(y.type.dtype);
  problem.q = q.data;
  problem.k = k.data;
  problem.v = v.data;
  problem.y = y.data;
  problem.batch = q.type.shape[0];
  problem.queries = q.type.shape[1];
  problem.keys = k.type.shape[1];
  problem.heads = op.heads;
  const int64_t bytes = hopper::bytes_of(problem.element);
  problem.q_pitch = q.row_pitch * bytes;
  problem.k_pitch = k.row_pitch * bytes;
  problem.v_pitch = v.row_pitch * bytes;
  problem.y_pitch = y.row_pitch * bytes;
  problem.scale = static_cast<float>(op.scale);
  return make_launch(
      [attention = hopper::Attention(problem)](cudaStream_t stream) { attention.launch(stream); });
}

}  // namespace

const Kernel attention_hopper = plain_kernel("cuda.attention.hopper", graph::OpKind::kAttention,
                                             supports_attention, prepare_attention);
const Kernel linear_hopper =
    plain_kernel("cuda.linear.hopper", graph::OpKind::kLinear, supports_hopper, prepare_hopper);
const Kernel conv2d_hopper =
    plain_kernel("cuda.conv2d.hopper", graph::OpKind::kConv2d, supports_hopper, prepare_hopper);

}  // namespace halftone::backend::cuda
