// Linear and convolution of the graph on the kernel family.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/call.h"
#include "backend/cuda/context.h"
#include "backend/cuda/hopper/element_of.h"
#include "backend/cuda/hopper/gemm.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/measure.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;
using hopper::Element;
using hopper::element_of;
using hopper::Gemm;
using hopper::GemmShape;

constexpr size_t kMeasured = 8;  // the estimate's favourites that are timed
// Up to so many rows nothing is taken off the family's time for overlapping: texts' encoders run
// side by side, and the library's small blocks share an SM.
constexpr int64_t kTextRows = 200;
constexpr int64_t kFewRows = 512;
constexpr double kWorthwhile = 0.98;     // a later one must win by this much
constexpr double kSmallestShare = 0.45;  // of a wave of tiles, in 16 bits
static_assert(hopper::kStatisticsColumns == graph::kStatisticsColumns);
static_assert(hopper::kAmaxColumns == graph::kAmaxColumns && graph::kAmaxRows == 64);

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
    s.interleaved = op->interleaved;
    if (op->statistics_groups > 0) s.group_columns = s.n / op->statistics_groups;
    s.amax = op->amax;
    if (s.interleaved) {  // rows and columns of the product, not of y
      s.out_h = s.out_h / 2 + 1;
      s.out_w = s.out_w / 2 + 1;
      s.m = s.images * s.out_h * s.out_w;
      s.n *= 4;
    }
    // A 1x1 convolution is a linear over pixels.
    if (s.kernel_h * s.kernel_w == 1 && s.stride == 1 && s.out_h == s.in_h && s.pad == 0 &&
        desc.input(Role::kRowAdd) == nullptr && !s.interleaved) {
      s.conv = false;
    }
  } else {
    const auto& linear = desc.as<graph::Linear>();
    s.geglu = linear.geglu;
    s.activated = linear.activation != graph::Activation::kNone;
    s.normalized = desc.input(Role::kRowStatistics) != nullptr;
    s.row_statistics = linear.row_statistics;
    s.amax = linear.amax;
    if (linear.statistics_groups > 0) s.group_columns = s.n / linear.statistics_groups;
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

// Tiles of 128 x 160, in waves of the device.
double waves_of(const GemmShape& shape, const DeviceInfo& info) {
  return static_cast<double>(shape.m) / 128.0 * static_cast<double>(shape.n) /
         (shape.geglu ? 80.0 : 160.0) / info.num_units;
}

Support supports_family(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("sm_90a")) return Support::no("needs compute capability 9.0");
  if (Support types = supports_types(desc); !types.ok) return types;
  if (Support rows = supports_row_statistics(desc, info); !rows.ok) return rows;
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  const GemmShape shape = shape_of(desc);
  if (desc.input(Role::kRowAdd) != nullptr && (!shape.conv || rows_per_image(desc) % 64 != 0)) {
    return Support::no("takes a row add in convolutions with a multiple of 64 pixels an image");
  }
  const TensorType* x_scale = desc.input(Role::kXScale);
  if (shape.amax && x_scale != nullptr && x_scale->shape.num_elements() > 1) {
    return Support::no("takes amax where x has one scale");
  }
  if (const std::string reason = hopper::unsupported_reason(shape); !reason.empty()) {
    return Support::no(reason);
  }
  return Support::yes();
}

Support supports_hopper(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support family = supports_family(desc, info); !family.ok) return family;
  const GemmShape shape = shape_of(desc);
  if (!is_quantized(shape.in) && waves_of(shape, info) < kSmallestShare) {
    return Support::no("so small that the library may be faster");
  }
  return Support::yes();
}

hopper::EpilogueArgs hopper_epilogue(const graph::OpDesc& desc, const Operands& operands,
                                     const GemmShape& shape) {
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
  if (const auto* linear = std::get_if<graph::Linear>(&desc.attrs)) {
    e.x_statistics = static_cast<const float*>(address(Role::kRowStatistics));
    e.column_sum = static_cast<const float*>(address(Role::kColumnSum));
    e.eps = static_cast<float>(linear->eps);
    e.x_columns = static_cast<int>(desc.input(Role::kX)->shape.row_size());
    if (linear->row_statistics) e.y_statistics = operands.outputs[1].as<float>();
  }
  e.bias = address(Role::kBias);
  e.bias_element = element(Role::kBias);
  e.row_add = address(Role::kRowAdd);
  e.row_add_element = element(Role::kRowAdd);
  e.rows_per_image = static_cast<int>(rows_per_image(desc));
  e.amax = find_output(desc, operands, Role::kAmax);
  e.group_statistics = find_output(desc, operands, Role::kGroupStatistics);
  if (e.group_statistics != nullptr) {
    e.groups = static_cast<int>(shape.n / shape.group_columns);
    e.group_columns = static_cast<int>(shape.group_columns);
    e.group_inverse =
        static_cast<uint32_t>(((int64_t{1} << 32) + shape.group_columns - 1) / shape.group_columns);
  }
  const auto* conv = std::get_if<graph::Conv2d>(&desc.attrs);
  e.activation = static_cast<hopper::Activation>(
      conv != nullptr ? conv->activation : desc.as<graph::Linear>().activation);
  return e;
}

std::string key_of(const GemmShape& s, const hopper::EpilogueArgs& e) {
  return fmt::format("hopper7/{}x{}x{}/{}{}{}/{}{}{}{}{}{}{}/{},{},{},{}/{},{},{},{}/sm{}", s.m,
                     s.n, s.channels, static_cast<int>(s.in), static_cast<int>(s.out),
                     e.row_scale_step != 0 ? 't' : '-', s.conv ? 'c' : 'l',
                     s.geglu       ? 'g'
                     : s.activated ? 'a'
                                   : '-',
                     s.interleaved ? 'i'
                     : s.residual  ? 'r'
                                   : '-',
                     s.normalized ? "n" : "", s.row_statistics ? "s" : "", s.amax ? "x" : "",
                     s.group_columns > 0 ? fmt::format("m{}", s.group_columns) : "", s.in_h, s.in_w,
                     s.kernel_h, s.kernel_w, s.stride, s.pad, s.x_pitch, s.y_pitch,
                     context().num_sms);
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
    const double ms = measure_ms([&] { gemm.launch(context().stream, true); });
    if (best && ms >= best_ms * kWorthwhile) continue;
    best = gemm;
    best_ms = ms;
    context().tuning.insert(key, all[i].name());
  }
  return *best;
}

// The family's kernel of an op, bound to its operands.
Gemm bind(const graph::OpDesc& desc, const Operands& operands) {
  GemmShape shape = shape_of(desc);
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& y = operands.outputs[0];
  const TensorView* residual = find_view(desc, operands, Role::kResidual);
  shape.x_pitch = x.row_pitch * hopper::bytes_of(shape.in);
  if (!shape.interleaved) shape.y_pitch = y.row_pitch * hopper::bytes_of(shape.out);
  hopper::GemmAddresses addresses;
  addresses.x = x.data;
  addresses.weight = find_view(desc, operands, Role::kWeight)->data;
  addresses.constant_weight = is_constant(desc, operands, Role::kWeight);
  addresses.y = y.data;
  if (residual != nullptr) {
    addresses.residual = residual->data;
    shape.residual_pitch = residual->row_pitch * hopper::bytes_of(shape.out);
  }
  return choose(shape, addresses, hopper_epilogue(desc, operands, shape));
}

std::unique_ptr<Launch> prepare_hopper(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  return make_launch(
      [gemm = bind(desc, operands)](cudaStream_t stream) { gemm.launch(stream, true); });
}

// --- 16-bit linears: the family or the library, whichever is faster here

Support supports_either(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("sm_90a")) return Support::no("needs compute capability 9.0");
  if (Support library = linear_cublaslt.supports(desc, info); !library.ok) return library;
  if (Support types = supports_types(desc); !types.ok) return types;
  if (is_quantized(*element_of(desc.output().dtype))) return Support::no("wants 16 bits");
  if (desc.input(Role::kRowAdd) != nullptr) return Support::no("no row add");
  const std::string reason = hopper::unsupported_reason(shape_of(desc));
  return reason.empty() ? Support::yes() : Support::no(reason);
}

// The library leaves products of rows that are yet to be normalized as f32, for another launch to
// read: of many rows that takes longer than any of its kernels gains, and much room.
bool has_no_rival(const GemmShape& shape) { return shape.normalized && shape.m > kFewRows; }

size_t workspace_either(const graph::OpDesc& desc, const DeviceInfo& info, Config config) {
  if (has_no_rival(shape_of(desc))) return 0;
  return linear_cublaslt.workspace_bytes(desc, info, config);
}

std::unique_ptr<Launch> prepare_either(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config config, const Operands& operands) {
  const GemmShape shape = shape_of(desc);
  if (has_no_rival(shape)) return prepare_hopper(desc, info, config, operands);
  const std::string key = key_of(shape, hopper_epilogue(desc, operands, shape));
  if (supports(linear_few_tokens, desc, info).ok) {
    return faster_from_memory(
        "either/few/" + key, desc, operands,
        [&](const Operands& with) { return linear_few_tokens.prepare(desc, info, config, with); },
        [&](const Operands& with) { return linear_cublaslt.prepare(desc, info, config, with); },
        kOverlapMs);
  }
  return faster(
      "either/" + key, [&] { return prepare_hopper(desc, info, config, operands); },
      [&] { return linear_cublaslt.prepare(desc, info, config, operands); },
      shape.m > kTextRows ? kOverlapMs : 0);
}

// --- Small convolutions in 16 bits: the same

Support supports_either_conv(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support library = conv2d_cudnn.supports(desc, info); !library.ok) return library;
  if (Support family = supports_family(desc, info); !family.ok) return family;
  if (waves_of(shape_of(desc), info) >= kSmallestShare) return Support::no("wants few tiles");
  return Support::yes();
}

size_t workspace_either_conv(const graph::OpDesc& desc, const DeviceInfo& info, Config config) {
  return conv2d_cudnn.workspace_bytes(desc, info, config);
}

std::unique_ptr<Launch> prepare_either_conv(const graph::OpDesc& desc, const DeviceInfo& info,
                                            Config config, const Operands& operands) {
  const GemmShape shape = shape_of(desc);
  return faster(
      "either/" + key_of(shape, hopper_epilogue(desc, operands, shape)),
      [&] { return prepare_hopper(desc, info, config, operands); },
      [&] { return conv2d_cudnn.prepare(desc, info, config, operands); }, kOverlapMs);
}

}  // namespace

const Kernel linear_hopper = with_statistics(
    plain_kernel("cuda.linear.hopper", graph::OpKind::kLinear, supports_hopper, prepare_hopper));
const Kernel linear_either =
    with_statistics(plain_kernel("cuda.linear.hopper_or_cublaslt", graph::OpKind::kLinear,
                                 supports_either, prepare_either, workspace_either));
const Kernel conv2d_hopper = with_statistics(
    plain_kernel("cuda.conv2d.hopper", graph::OpKind::kConv2d, supports_hopper, prepare_hopper));
const Kernel conv2d_either =
    plain_kernel("cuda.conv2d.hopper_or_cudnn", graph::OpKind::kConv2d, supports_either_conv,
                 prepare_either_conv, workspace_either_conv);

}  // namespace halftone::backend::cuda
