#include "workflow/kernel_shapes.h"

#include <cmath>

#include <fmt/format.h>

namespace halftone::workflow {
namespace {

using graph::Role;
using Kind = KernelShape::Kind;

constexpr KernelShape linear(std::string_view network, int calls, int64_t rows, int64_t out,
                             int64_t in, Kind kind = Kind::kLinear) {
  return {.kind = kind, .network = network, .calls = calls, .rows = rows, .out = out, .in = in};
}
constexpr KernelShape conv(std::string_view network, int calls, int64_t batch, int64_t size,
                           int64_t in, int64_t out) {
  return {.kind = Kind::kConv,
          .network = network,
          .calls = calls,
          .batch = batch,
          .out = out,
          .in = in,
          .size = size};
}
constexpr KernelShape attention(std::string_view network, int calls, int64_t batch, int64_t heads,
                                int64_t queries, int64_t keys, int64_t width = 64) {
  return {.kind = Kind::kAttention,
          .network = network,
          .calls = calls,
          .batch = batch,
          .rows = queries,
          .keys = keys,
          .heads = heads,
          .width = width};
}

constexpr KernelShape group_norm(std::string_view network, int calls, int64_t batch, int64_t size,
                                 int64_t channels) {
  return {.kind = Kind::kGroupNorm,
          .network = network,
          .calls = calls,
          .batch = batch,
          .in = channels,
          .size = size};
}
constexpr KernelShape rows_of(Kind kind, std::string_view network, int calls, int64_t rows,
                              int64_t in) {
  return {.kind = kind, .network = network, .calls = calls, .rows = rows, .in = in};
}

constexpr KernelShape measured(KernelShape shape, std::string_view network) {
  shape.network = network;
  shape.measured = true;
  return shape;
}

constexpr KernelShape of_tensor(KernelShape shape) {
  shape.one_scale = true;
  return shape;
}
constexpr KernelShape with_residual(KernelShape shape) {
  shape.residual = true;
  return shape;
}
constexpr KernelShape to_codes(KernelShape shape) {
  shape.to_codes = true;
  return shape;
}
constexpr KernelShape coded(KernelShape shape) {
  shape.coded = true;
  return shape;
}
constexpr KernelShape with_gelu(KernelShape shape) {
  shape.gelu = true;
  return shape;
}
constexpr KernelShape projecting(KernelShape shape) {
  shape.projects = true;
  return shape;
}
constexpr KernelShape describing(KernelShape shape) {
  shape.describes = true;
  return shape;
}
constexpr KernelShape normalizing(KernelShape shape) {
  shape.normalizes = true;
  return shape;
}

constexpr KernelShape weight_only(KernelShape shape) {
  shape.weight_only = true;
  return shape;
}

constexpr std::string_view kSdxl = "sdxl-1024-b2";
constexpr std::string_view kTurbo = "turbo-512-b1";
constexpr std::string_view kSd3 = "sd3-1024-b2";
constexpr std::string_view kVae = "vae-1024";
// Those whose group norms read statistics that the convolution before them made.
constexpr std::string_view kSdxlMeasured = "sdxl-1024-b2-measured";
constexpr std::string_view kVaeMeasured = "vae-1024-measured";
// Attentions that write what an output projection with a static scale reads.
constexpr std::string_view kSdxlStatic = "sdxl-1024-b2-static";
// Self-attentions in 8 bits, from codes to codes.
constexpr std::string_view kSdxlSelf = "sdxl-1024-b2-self";
// What a dynamic scale for all of a linear's result takes.
constexpr std::string_view kSdxlTensor = "sdxl-1024-b2-tensor";
// Attentions to the text that compute their queries.
constexpr std::string_view kSdxlQueries = "sdxl-1024-b2-queries";
constexpr std::string_view kTurboQueries = "turbo-512-b1-queries";
// Linears around a layer norm, and the halves of it that they may take over.
constexpr std::string_view kTurboNorms = "turbo-512-b1-norms";
// Keys and values of the text in the 8-bit modes: many layers', one layer's.
constexpr std::string_view kTurboText = "turbo-512-b1-text";
constexpr std::string_view kSdxlText = "sdxl-1024-b2-text";

constexpr KernelShape kShapes[] = {
    linear(kSdxl, 60, 2048, 10240, 1280, Kind::kGeglu),
    linear(kSdxl, 60, 2048, 3840, 1280),
    linear(kSdxl, 192, 2048, 1280, 1280),
    linear(kSdxl, 60, 2048, 1280, 5120),
    linear(kSdxl, 10, 8192, 5120, 640, Kind::kGeglu),
    linear(kSdxl, 10, 8192, 1920, 640),
    linear(kSdxl, 40, 8192, 640, 640),
    linear(kSdxl, 10, 8192, 640, 2560),
    conv(kSdxl, 10, 2, 32, 1280, 1280),
    conv(kSdxl, 2, 2, 32, 2560, 1280),
    conv(kSdxl, 1, 2, 32, 1920, 1280),
    conv(kSdxl, 1, 2, 32, 640, 1280),
    conv(kSdxl, 6, 2, 64, 640, 640),
    conv(kSdxl, 1, 2, 64, 1920, 640),
    conv(kSdxl, 1, 2, 64, 1280, 640),
    conv(kSdxl, 1, 2, 64, 960, 640),
    conv(kSdxl, 1, 2, 64, 320, 640),
    conv(kSdxl, 7, 2, 128, 320, 320),
    conv(kSdxl, 2, 2, 128, 640, 320),
    conv(kSdxl, 1, 2, 128, 960, 320),
    conv(kSdxl, 1, 2, 128, 4, 320),
    conv(kSdxl, 1, 2, 128, 320, 4),
    attention(kSdxl, 10, 2, 10, 4096, 4096),
    attention(kSdxl, 60, 2, 20, 1024, 1024),
    attention(kSdxl, 10, 2, 10, 4096, 77),
    attention(kSdxl, 60, 2, 20, 1024, 77),
    group_norm(kSdxl, 8, 2, 128, 320),
    group_norm(kSdxl, 2, 2, 128, 640),
    group_norm(kSdxl, 1, 2, 128, 960),
    group_norm(kSdxl, 11, 2, 64, 640),
    group_norm(kSdxl, 1, 2, 64, 1280),
    group_norm(kSdxl, 1, 2, 64, 1920),
    group_norm(kSdxl, 16, 2, 32, 1280),
    group_norm(kSdxl, 2, 2, 32, 2560),
    rows_of(Kind::kLayerNorm, kSdxl, 180, 2048, 1280),
    rows_of(Kind::kLayerNorm, kSdxl, 30, 8192, 640),
    rows_of(Kind::kQuantize, kSdxl, 60, 2048, 5120),
    rows_of(Kind::kQuantize, kSdxl, 10, 8192, 2560),
    rows_of(Kind::kQuantize, kSdxl, 120, 2048, 1280),
    linear(kTurbo, 60, 256, 10240, 1280, Kind::kGeglu),
    linear(kTurbo, 60, 256, 3840, 1280),
    linear(kTurbo, 192, 256, 1280, 1280),
    linear(kTurbo, 60, 256, 1280, 5120),
    linear(kTurbo, 10, 1024, 5120, 640, Kind::kGeglu),
    linear(kTurbo, 10, 1024, 1920, 640),
    linear(kTurbo, 40, 1024, 640, 640),
    linear(kTurbo, 10, 1024, 640, 2560),
    conv(kTurbo, 10, 1, 16, 1280, 1280),
    conv(kTurbo, 6, 1, 32, 640, 640),
    conv(kTurbo, 7, 1, 64, 320, 320),
    conv(kTurbo, 1, 1, 64, 4, 320),
    conv(kTurbo, 1, 1, 64, 320, 4),
    attention(kTurbo, 10, 1, 10, 1024, 1024),
    attention(kTurbo, 60, 1, 20, 256, 256),
    group_norm(kTurbo, 8, 1, 64, 320),
    group_norm(kTurbo, 16, 1, 16, 1280),
    rows_of(Kind::kLayerNorm, kTurbo, 180, 256, 1280),
    rows_of(Kind::kQuantize, kTurbo, 60, 256, 5120),
    linear(kSd3, 24, 8192, 4608, 1536),
    linear(kSd3, 24, 8192, 1536, 1536),
    with_gelu(linear(kSd3, 24, 8192, 6144, 1536)),
    linear(kSd3, 24, 8192, 1536, 6144),
    linear(kSd3, 24, 308, 4608, 1536),
    with_gelu(linear(kSd3, 24, 308, 6144, 1536)),
    attention(kSd3, 24, 2, 24, 4250, 4250),
    conv(kVae, 7, 1, 256, 512, 512),
    conv(kVae, 5, 1, 512, 256, 256),
    conv(kVae, 5, 1, 1024, 128, 128),
    conv(kVae, 10, 1, 128, 512, 512),
    conv(kVae, 1, 1, 512, 512, 256),
    conv(kVae, 1, 1, 1024, 256, 128),
    conv(kVae, 1, 1, 128, 4, 512),
    conv(kVae, 1, 1, 1024, 128, 3),
    attention(kVae, 1, 1, 1, 16384, 16384, 512),
    group_norm(kVae, 5, 1, 1024, 128),
    group_norm(kVae, 5, 1, 512, 256),
    measured(conv({}, 7, 2, 128, 320, 320), kSdxlMeasured),
    measured(conv({}, 6, 2, 64, 640, 640), kSdxlMeasured),
    measured(conv({}, 10, 2, 32, 1280, 1280), kSdxlMeasured),
    measured(group_norm({}, 8, 2, 128, 320), kSdxlMeasured),
    measured(group_norm({}, 11, 2, 64, 640), kSdxlMeasured),
    measured(group_norm({}, 16, 2, 32, 1280), kSdxlMeasured),
    measured(conv({}, 7, 1, 256, 512, 512), kVaeMeasured),
    measured(conv({}, 5, 1, 512, 256, 256), kVaeMeasured),
    measured(conv({}, 5, 1, 1024, 128, 128), kVaeMeasured),
    measured(group_norm({}, 5, 1, 1024, 128), kVaeMeasured),
    measured(group_norm({}, 5, 1, 512, 256), kVaeMeasured),
    of_tensor(linear(kSdxlTensor, 60, 2048, 10240, 1280, Kind::kGeglu)),
    measured(of_tensor(linear({}, 60, 2048, 10240, 1280, Kind::kGeglu)), kSdxlTensor),
    of_tensor(linear(kSdxlTensor, 10, 8192, 5120, 640, Kind::kGeglu)),
    measured(of_tensor(linear({}, 10, 8192, 5120, 640, Kind::kGeglu)), kSdxlTensor),
    of_tensor(linear(kSdxlTensor, 6, 2048, 1280, 5120)),
    measured(of_tensor(linear({}, 6, 2048, 1280, 5120)), kSdxlTensor),
    of_tensor(rows_of(Kind::kQuantize, kSdxlTensor, 60, 2048, 5120)),
    measured(of_tensor(rows_of(Kind::kQuantize, {}, 60, 2048, 5120)), kSdxlTensor),
    of_tensor(rows_of(Kind::kQuantize, kSdxlTensor, 10, 8192, 2560)),
    measured(of_tensor(rows_of(Kind::kQuantize, {}, 10, 8192, 2560)), kSdxlTensor),
    of_tensor(rows_of(Kind::kQuantize, kSdxlTensor, 6, 2048, 1280)),
    measured(of_tensor(rows_of(Kind::kQuantize, {}, 6, 2048, 1280)), kSdxlTensor),
    to_codes(attention(kSdxlStatic, 10, 2, 10, 4096, 4096)),
    to_codes(attention(kSdxlStatic, 60, 2, 20, 1024, 1024)),
    to_codes(attention(kSdxlStatic, 10, 2, 10, 4096, 77)),
    to_codes(attention(kSdxlStatic, 60, 2, 20, 1024, 77)),
    coded(linear(kSdxlSelf, 60, 2048, 3840, 1280)),
    coded(linear(kSdxlSelf, 10, 8192, 1920, 640)),
    coded(attention(kSdxlSelf, 10, 2, 10, 4096, 4096)),
    coded(attention(kSdxlSelf, 60, 2, 20, 1024, 1024)),
    projecting(attention(kSdxlQueries, 10, 2, 10, 4096, 77)),
    projecting(attention(kSdxlQueries, 60, 2, 20, 1024, 77)),
    projecting(attention(kTurboQueries, 10, 1, 10, 1024, 77)),
    projecting(attention(kTurboQueries, 60, 1, 20, 256, 77)),
    with_residual(linear(kTurboNorms, 120, 256, 1280, 1280)),
    describing(with_residual(linear(kTurboNorms, 120, 256, 1280, 1280))),
    with_residual(linear(kTurboNorms, 60, 256, 1280, 5120)),
    describing(with_residual(linear(kTurboNorms, 60, 256, 1280, 5120))),
    normalizing(linear(kTurboNorms, 60, 256, 1280, 1280)),
    normalizing(linear(kTurboNorms, 60, 256, 3840, 1280)),
    normalizing(linear(kTurboNorms, 60, 256, 10240, 1280, Kind::kGeglu)),
    with_residual(linear(kTurboNorms, 20, 1024, 640, 640)),
    describing(with_residual(linear(kTurboNorms, 20, 1024, 640, 640))),
    normalizing(linear(kTurboNorms, 10, 1024, 1920, 640)),
    normalizing(linear(kTurboNorms, 10, 1024, 5120, 640, Kind::kGeglu)),
    weight_only(linear(kTurboText, 5, 77, 35840, 2048)),
    weight_only(linear(kTurboText, 1, 77, 2560, 2048)),
    weight_only(linear(kTurboText, 1, 77, 1280, 2048)),
    weight_only(linear(kSdxlText, 5, 154, 35840, 2048)),
    weight_only(linear(kSdxlText, 1, 154, 2560, 2048)),
};

// x and the weight in `dtype`, in 8 bits with a scale for each row; the rest in 16 bits.
std::vector<graph::TypedOperand> projected_operands(const KernelShape& s, DType dtype) {
  const int64_t channels = s.heads * s.width;
  const TensorType kv{size_of(dtype) == 1 ? DType::kF16 : dtype, {s.batch, s.keys, channels}};
  std::vector<graph::TypedOperand> list = {{Role::kX, {dtype, {s.batch, s.rows, channels}}},
                                           {Role::kWeight, {dtype, {channels, channels}}},
                                           {Role::kK, kv},
                                           {Role::kV, kv}};
  if (size_of(dtype) == 1) {
    list.push_back({Role::kXScale, {DType::kF32, {s.batch * s.rows}}});
    list.push_back({Role::kWScale, {DType::kF32, {channels}}});
  }
  return list;
}

// x in f16, the weight in `dtype`.
std::vector<graph::TypedOperand> weight_only_operands(const KernelShape& s, DType dtype) {
  return {{Role::kX, {DType::kF16, {s.rows, s.in}}},
          {Role::kWeight, {dtype, {s.out, s.in}}},
          {Role::kWScale, {DType::kF32, {s.out}}}};
}

// q, k and v. In 8 bits as quantization makes them: f8 with one scale, i8 with one for each head's
// part of a token.
std::vector<graph::TypedOperand> attention_operands(const KernelShape& s, DType dtype) {
  const int64_t channels = s.heads * s.width;
  const DType input = s.to_codes ? DType::kF16 : s.coded ? DType::kF8E4M3 : dtype;
  const TensorType q{input, {s.batch, s.rows, channels}};
  const TensorType kv{input, {s.batch, s.keys, channels}};
  if (size_of(input) != 1) {
    std::vector<graph::TypedOperand> list = {{Role::kQ, q}, {Role::kK, kv}, {Role::kV, kv}};
    if (s.to_codes) list.push_back({Role::kYScale, {DType::kF32, {1}}});
    return list;
  }
  const bool by_part = input == DType::kI8;
  std::vector<graph::TypedOperand> list = {
      {Role::kQ, q},
      {Role::kK, kv},
      {Role::kV, {DType::kF8E4M3, kv.shape}},
      {Role::kQScale, {DType::kF32, {by_part ? s.batch * s.rows * s.heads : 1}}},
      {Role::kKScale, {DType::kF32, {by_part ? s.batch * s.keys * s.heads : 1}}},
      {Role::kVScale, {DType::kF32, {1}}}};
  if (s.coded) list.push_back({Role::kYScale, {DType::kF32, {1}}});
  return list;
}

}  // namespace

KernelShape KernelShape::of_images(int64_t count) const {
  KernelShape all = *this;
  const bool has_batch =
      kind == Kind::kConv || kind == Kind::kAttention || kind == Kind::kGroupNorm;
  (has_batch ? all.batch : all.rows) *= count;
  return all;
}

std::string KernelShape::text() const {
  switch (kind) {
    case Kind::kLinear:
    case Kind::kGeglu:
      return fmt::format("{} {}x{}x{}{}{}{}{}{}{}{}{}", kind == Kind::kGeglu ? "geglu" : "linear",
                         rows, out, in, gelu ? " gelu" : "", residual ? " residual" : "",
                         describes ? " describing" : "", normalizes ? " normalizing" : "",
                         weight_only ? " weight only" : "", one_scale ? " one scale" : "",
                         measured ? " measured" : "", coded ? " to f8e4m3" : "");
    case Kind::kConv:
      return fmt::format("conv3x3 {}x{}x{} {}->{}{}", batch, size, size, in, out,
                         measured ? " measured" : "");
    case Kind::kAttention:
      return fmt::format("attention {}x{}x{}x{} width {}{}{}{}", batch, heads, rows, keys, width,
                         to_codes ? " to codes" : "", coded ? " of f8e4m3 to codes" : "",
                         projects ? " with queries" : "");
    case Kind::kGroupNorm:
      return fmt::format("group_norm {}x{}x{}x{}{}", batch, size, size, in,
                         measured ? " of measured" : "");
    case Kind::kLayerNorm:
    case Kind::kQuantize:
      return fmt::format("{} {}x{}{}{}", kind == Kind::kQuantize ? "quantize" : "layer_norm", rows,
                         in, one_scale ? " one scale" : "", measured ? " of measured" : "");
  }
  return "?";
}

bool KernelShape::takes(DType dtype) const {
  if (residual || describes || normalizes) return size_of(dtype) == 2;
  const bool codes_only = kind == Kind::kQuantize || to_codes || coded || weight_only || one_scale;
  return !codes_only || size_of(dtype) == 1;
}

graph::OpAttrs KernelShape::attrs(DType dtype) const {
  const DType made = size_of(dtype) == 1 ? dtype : DType::kF32;
  switch (kind) {
    case Kind::kGroupNorm: {
      graph::GroupNorm op;
      op.groups = kGroups;
      op.activation = graph::Activation::kSilu;
      op.out = made;
      return op;
    }
    case Kind::kLayerNorm: {
      graph::LayerNorm op;
      op.out = made;
      op.granularity = graph::Granularity::kPerToken;
      op.dynamic = size_of(dtype) == 1;
      return op;
    }
    case Kind::kQuantize: {
      graph::Quantize op;
      op.dtype = dtype;
      op.granularity = one_scale ? graph::Granularity::kPerTensor : graph::Granularity::kPerToken;
      op.dynamic = true;
      return op;
    }
    default:
      break;
  }
  // Of codes only: other results have the operands' type.
  const DType result = size_of(dtype) == 1 ? DType::kF16 : DType::kF32;
  if (kind == Kind::kConv) {
    return graph::Conv2d{.stride = 1,
                         .pad_begin = 1,
                         .pad_end = 1,
                         .out = result,
                         .statistics_groups = measured ? kGroups : 0};
  }
  if (kind == Kind::kAttention) {
    graph::Attention op{heads, 1.0 / std::sqrt(static_cast<double>(width)), false};
    if (projects) return op;
    if (size_of(dtype) == 1 && !to_codes) op.probabilities = DType::kF8E4M3;
    op.out = to_codes || coded ? dtype : result;
    return op;
  }
  graph::Linear op;
  if (weight_only) return op;
  op.geglu = kind == Kind::kGeglu;
  if (gelu) op.activation = graph::Activation::kGeluTanh;
  op.out = coded ? DType::kF8E4M3 : result;
  op.row_statistics = describes;
  op.amax = measured;
  if (normalizes) op.eps = 1e-5;
  return op;
}

std::vector<graph::TypedOperand> KernelShape::operands(DType dtype) const {
  if (projects) return projected_operands(*this, dtype);
  if (weight_only) return weight_only_operands(*this, dtype);
  if (kind == Kind::kAttention) return attention_operands(*this, dtype);
  std::vector<graph::TypedOperand> list;
  const bool codes = size_of(dtype) == 1;
  const DType plain = codes ? DType::kF16 : dtype;
  if (kind == Kind::kQuantize) {
    list = {{Role::kX, {plain, {rows, in}}}};
    if (measured) list.push_back({Role::kAmax, graph::amax_type({rows, in})});
    return list;
  }
  if (kind == Kind::kGroupNorm || kind == Kind::kLayerNorm) {
    const bool images = kind == Kind::kGroupNorm;
    list = {{Role::kX, {plain, images ? Shape{batch, size, size, in} : Shape{rows, in}}},
            {Role::kGamma, {DType::kF32, {in}}},
            {Role::kBeta, {DType::kF32, {in}}}};
    if (images && codes) list.push_back({Role::kYScale, {DType::kF32, {1}}});
    if (measured) {
      list.push_back({Role::kGroupStatistics,
                      graph::group_statistics_type("group_norm", list.front().type, kGroups)});
    }
    return list;
  }
  if (kind == Kind::kConv) {
    list = {{Role::kX, {dtype, {batch, size, size, in}}},
            {Role::kWeight, {dtype, {out, 3, 3, in}}}};
  } else {
    list = {{Role::kX, {dtype, {rows, in}}}, {Role::kWeight, {dtype, {out, in}}}};
  }
  list.push_back({Role::kBias, {plain, {out}}});
  if (residual) list.push_back({Role::kResidual, {plain, {rows, out}}});
  if (normalizes) {
    list.push_back({Role::kRowStatistics, graph::row_statistics_type({rows, in})});
    list.push_back({Role::kColumnSum, {DType::kF32, {out}}});
  }
  if (codes) {
    const int64_t scales = kind == Kind::kConv || one_scale ? 1 : rows;
    list.push_back({Role::kXScale, {DType::kF32, {scales}}});
    list.push_back({Role::kWScale, {DType::kF32, {out}}});
  }
  if (coded) list.push_back({Role::kYScale, {DType::kF32, {1}}});
  return list;
}

std::span<const KernelShape> kernel_shapes() { return kShapes; }

}  // namespace halftone::workflow
