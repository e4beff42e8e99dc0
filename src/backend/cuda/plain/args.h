// Arguments and launchers of the plain kernels. Element types are run-time values: these kernels
// wait for memory, and one kernel serves f32, f16 and bf16 alike.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <cuda_runtime.h>

#include "tensor/dtype.h"

namespace halftone::backend::cuda {

// A device address with its element type; null = absent.
struct Typed {
  const void* data = nullptr;
  DType dtype = DType::kF32;
};
struct TypedOut {
  void* data = nullptr;
  DType dtype = DType::kF32;
};

// In the order of graph::Activation.
enum class Act : uint8_t { kNone, kSilu, kGelu, kGeluTanh, kQuickGelu };

// Products of rows become those of normalized rows: v = (v - mean[r] * column_sum[c]) / sqrt(var[r]
// + eps), by the statistics of graph/ops/linear.h of rows of `columns` elements. Null = left alone.
struct RowNormArgs {
  const float* statistics = nullptr;
  const float* column_sum = nullptr;
  int64_t columns = 0;
  float eps = 0;
};

// y[r, c] = act(x[r, c] + bias[c] + row_add[r / rows_per_batch, c]) + residual[r, c]. With geglu x,
// bias and row_add have 2 * cols columns and y = h[:, :cols] * gelu(h[:, cols:]) + residual.
// residual_rows: residual repeats after that many rows (0 = never). Reads x, residual and writes y
// once; limited by memory.
struct EpilogueArgs {
  Typed x, bias, row_add, residual;
  RowNormArgs norm;  // of x, before the bias
  TypedOut y;
  int64_t rows = 0, cols = 0;
  int64_t rows_per_batch = 1;
  int64_t residual_rows = 0;
  Act act = Act::kNone;
  bool geglu = false;
};
void launch_epilogue(const EpilogueArgs& args, cudaStream_t stream);

// y = clamp(scale * x + shift, low, high).
struct AffineArgs {
  Typed x;
  TypedOut y;
  int64_t count = 0;
  float scale = 1, shift = 0, low = 0, high = 0;
};
void launch_affine(const AffineArgs& args, cudaStream_t stream);

// Row r of the destination, `row_bytes` long, comes from row source(r) of the source, where
// source(r) = r / run * source_step + source_first + r % run; rows lie `pitch` bytes apart.
struct CopyRowsArgs {
  const void* x = nullptr;
  void* y = nullptr;
  int64_t rows = 0, row_bytes = 0;
  int64_t x_pitch = 0, y_pitch = 0;
  int64_t x_run = 1, x_step = 1, x_first = 0;
  int64_t y_run = 1, y_step = 1, y_first = 0;
};
// All of them in as few launches as there are kMaxCopies in `copies`; their destinations are apart.
inline constexpr int kMaxCopies = 4;
void launch_copy_rows(std::span<const CopyRowsArgs> copies, cudaStream_t stream);

// Row r of y is row index[r] of x (+ r * rows_per_index). An index outside [0, limit) gives a row
// of 0xff bytes, which is NaN in every floating type.
struct GatherRowsArgs {
  const void* x = nullptr;
  const int32_t* index = nullptr;
  void* y = nullptr;
  int64_t rows = 0, row_bytes = 0;
  int64_t limit = 0, rows_per_index = 0;
};
void launch_gather_rows(const GatherRowsArgs& args, cudaStream_t stream);

inline constexpr int kMaxRank = 6;
// y's axis i is x's axis perm[i]; elements of 1, 2, 4 or 8 bytes.
struct TransposeArgs {
  const void* x = nullptr;
  void* y = nullptr;
  int64_t count = 0;
  int rank = 0;
  int element_bytes = 0;
  int64_t extent[kMaxRank] = {};  // of y
  int64_t stride[kMaxRank] = {};  // in x, elements, along y's axes
};
void launch_transpose(const TransposeArgs& args, cudaStream_t stream);

// Nearest neighbour: x [n, h, w, c] to y [n, out_h, out_w, c].
struct UpsampleArgs {
  const void* x = nullptr;
  void* y = nullptr;
  int64_t n = 0, h = 0, w = 0, out_h = 0, out_w = 0, row_bytes = 0;
};
void launch_upsample(const UpsampleArgs& args, cudaStream_t stream);

// graph/ops/subpixel.h: x f32 [out, 3, 3, in] to y f32 [4 out, 2, 2, in].
struct SubpixelWeightArgs {
  const float* x = nullptr;
  float* y = nullptr;
  int64_t out = 0, in = 0;
};
void launch_subpixel_weight(const SubpixelWeightArgs& args, cudaStream_t stream);

// x [n, h + 1, w + 1, 4 c] to y [n, 2 h, 2 w, c]; row_bytes of c elements.
struct SubpixelMergeArgs {
  const void* x = nullptr;
  void* y = nullptr;
  int64_t n = 0, h = 0, w = 0, row_bytes = 0;
};
void launch_subpixel_merge(const SubpixelMergeArgs& args, cudaStream_t stream);

// x f32 [count] to y f32 [count, 2 * half].
struct SinusoidalArgs {
  const float* x = nullptr;
  float* y = nullptr;
  int64_t count = 0, half = 0;
  bool cos_first = false;
  double freq_shift = 0, log_max_period = 0;
};
void launch_sinusoidal(const SinusoidalArgs& args, cudaStream_t stream);

// How quantized codes lie: i8 and f8e4m3 one a byte, u8 packed with `bits`; integers in [low,
// high]. `largest` is what the largest magnitude maps to.
struct CodeFormat {
  DType dtype = DType::kI8;
  int bits = 8, low = -128, high = 127;
  float largest = 127;
};

// x [n, rows, channels].
struct GroupNormArgs {
  // Channels [0, split) of a row lie in x, the others in x2, of the same type; each dense.
  Typed x, x2, gamma, beta;
  int64_t split = 0;
  TypedOut y;
  // What was read, joined: null = not wanted. Codes like y's where joined_scale is given, else x.
  TypedOut joined;
  const float* joined_scale = nullptr;
  int64_t n = 0, rows = 0, channels = 0, groups = 0;
  // Statistics of pieces of `piece_rows` rows (the last may have fewer): f32 [n, groups, pieces,
  // 2], means and sums of squared deviations.
  float* statistics = nullptr;
  int pieces = 1;
  int piece_rows = 1;
  bool measured = false;  // the statistics are there already
  // Room for them merged to one a group, f32 [n, groups, 2]; null where the pieces are few.
  float* merged = nullptr;
  float eps = 0;
  Act act = Act::kNone;
  const float* y_scale = nullptr;  // static: y holds codes
  CodeFormat format;
};
inline constexpr int64_t kMostGroups = 64;
inline constexpr int64_t kMostGroupedChannels = 4096;  // shared memory of the statistics
void launch_group_norm(const GroupNormArgs& args, cudaStream_t stream);
// The first half of it: writes the statistics of x. Reads x, x2, split, n, rows, channels, groups
// and the pieces.
void launch_group_statistics(const GroupNormArgs& args, cudaStream_t stream);

// The same as one launch of clusters (compute capability 9.0), for x in 16 bits, y in the same or
// in codes, and vectors of eight columns. A reason why not, or nothing; addresses do not matter to
// it.
[[nodiscard]] std::string_view clusters_refusal(const GroupNormArgs& args);
void launch_group_norm_clusters(const GroupNormArgs& args, cudaStream_t stream);

// Every block of the second half merges a group's pieces; more than these are merged to one before.
inline constexpr int64_t kMostPieces = 512;

struct LayerNormArgs {
  Typed x, gamma, beta;
  TypedOut y;
  int64_t rows = 0, channels = 0;
  float eps = 0;
  // y holds codes: by y_scale [rows / rows_per_scale], or by each row's own scale, written to
  // y_dynamic [rows]. At most kMaxCodedChannels channels, a multiple of 8.
  const float* y_scale = nullptr;
  float* y_dynamic = nullptr;
  int64_t rows_per_scale = 1;
  CodeFormat format;
  int num_units = 1;  // multiprocessors
};
inline constexpr int64_t kMaxCodedChannels = 2048;
void launch_layer_norm(const LayerNormArgs& args, cudaStream_t stream);

// y f32 [rows, slots, 2]: the statistics of x's rows (graph/ops/linear.h).
struct RowStatisticsArgs {
  Typed x;
  float* y = nullptr;
  int64_t rows = 0, cols = 0;
};
void launch_row_statistics(const RowStatisticsArgs& args, cudaStream_t stream);

// graph/ops/norm_weight.h: weight and y [out, in], column_sum f32 [out], shift [out].
struct NormWeightArgs {
  Typed weight, gamma, beta, bias;
  TypedOut y, shift;
  float* column_sum = nullptr;
  int64_t out = 0, in = 0;
};
void launch_norm_weight(const NormWeightArgs& args, cudaStream_t stream);

// y = codes of x * gamma[column] at the scale of the row. Static: scale_in [rows / rows_per_scale].
// Dynamic (scale_in null): the rows form `groups` groups whose scales are found first; one group's
// scale is written `repeats` times to scale_out.
struct QuantizeArgs {
  Typed x, gamma;
  void* y = nullptr;
  CodeFormat format;
  const int32_t* zero = nullptr;
  const float* scale_in = nullptr;
  float* scale_out = nullptr;
  const float* amax = nullptr;  // of parts of x (graph/ops/quantize.h)
  int64_t amax_count = 0;
  int64_t rows = 0, cols = 0, rows_per_scale = 1, groups = 1, repeats = 1;
};
void launch_quantize(const QuantizeArgs& args, cudaStream_t stream);

// y = scale[row / rows_per_scale] * (x - zero), or the codes themselves (scale null); cols counts
// elements, not bytes.
struct DequantizeArgs {
  const void* x = nullptr;
  TypedOut y;
  CodeFormat format;
  const int32_t* zero = nullptr;
  const float* scale = nullptr;
  int64_t rows = 0, cols = 0, rows_per_scale = 1;
};
void launch_dequantize(const DequantizeArgs& args, cudaStream_t stream);

// y [n * out_h * out_w, out] f32 = sums * (x_scale[row / rows_per_scale] * weight_scale[out]), x
// [n, h, w, in] codes or (x_scale null) floats, weight codes [out, kernel_h, kernel_w, in]. A
// linear has n rows of one pixel.
struct QuantizedMatrixArgs {
  Typed x;
  const void* weight = nullptr;
  CodeFormat weight_format;
  const float* x_scale = nullptr;
  const float* weight_scale = nullptr;
  float* y = nullptr;
  int64_t n = 0, h = 1, w = 1, in = 0, out_h = 1, out_w = 1, out = 0, kernel_h = 1, kernel_w = 1;
  int64_t stride = 1, pad = 0, rows_per_scale = 1;
};
void launch_quantized_matrix(const QuantizedMatrixArgs& args, cudaStream_t stream);

// Sums of products of codes, i32 or f32 [rows, cols], in place to f32: times the row's and the
// column's scale.
struct ScaleSumsArgs {
  float* sums = nullptr;
  bool integers = false;
  const float* row_scale = nullptr;
  const float* column_scale = nullptr;
  int64_t rows = 0, cols = 0, rows_per_scale = 1;
};
void launch_scale_sums(const ScaleSumsArgs& args, cudaStream_t stream);

// In the order of graph::Reduction.
enum class ReduceKind : uint8_t { kAbsMax, kMin, kMax, kSumSquares };
// x [rows, cols], rows `pitch` elements apart. y f32 [groups], the rows in equal groups, or [cols]
// where columns. partial [groups or cols] * reduce_pieces() f64.
struct ReduceArgs {
  Typed x;
  float* y = nullptr;
  double* partial = nullptr;
  ReduceKind kind = ReduceKind::kAbsMax;
  bool columns = false;
  int64_t rows = 0, cols = 0, pitch = 0, groups = 1;
};
[[nodiscard]] constexpr int reduce_pieces(int64_t groups) { return groups >= 64 ? 16 : 256; }
void launch_reduce(const ReduceArgs& args, cudaStream_t stream);

// y i32 [bins]: counts as graph/ops/reduce.h defines them.
struct HistogramArgs {
  Typed x;
  int32_t* y = nullptr;
  int bins = 0;
  int64_t rows = 0, cols = 0, pitch = 0;
};
void launch_histogram(const HistogramArgs& args, cudaStream_t stream);

// y[i] = x[i] * gamma[i / inner % extent].
struct ScaleArgs {
  Typed x, gamma;
  TypedOut y;
  int64_t count = 0, inner = 1, extent = 1;
};
void launch_scale(const ScaleArgs& args, cudaStream_t stream);

// y [copies * n] = coefficients.input_scale * state[0].
void launch_scale_input(const float* state, const float* coefficients, float* y, int64_t sample,
                        int64_t copies, cudaStream_t stream);
// y = u + guidance * (c - u), x = [u; c].
void launch_guidance(const float* x, const float* coefficients, float* y, int64_t half,
                     cudaStream_t stream);
void launch_linear_update(const float* state, const float* output, const float* noise,
                          const float* coefficients, float* y, int64_t sample, cudaStream_t stream);

// y = rne(255 * clamp(x, 0, 1)), NaN gives 0; *flag = 1 when a value is not finite, else 0.
void launch_to_bytes(const float* x, uint8_t* y, float* flag, int64_t count, cudaStream_t stream);

// y [rows, out] (f32 sums, then the epilogue's job) = x [rows, in] weight[out, in]^T.
struct PlainLinearArgs {
  Typed x, weight;
  float* y = nullptr;
  int64_t rows = 0, in = 0, out = 0;
};
void launch_plain_linear(const PlainLinearArgs& args, cudaStream_t stream);

// y [n, out_h, out_w, out] f32 sums of the convolution.
struct PlainConvArgs {
  Typed x, weight;
  float* y = nullptr;
  int64_t n = 0, h = 0, w = 0, in = 0, out_h = 0, out_w = 0, out = 0, kernel_h = 0, kernel_w = 0;
  int64_t stride = 1, pad = 0;
};
void launch_plain_conv(const PlainConvArgs& args, cudaStream_t stream);

// Convolutions at the ends of a network, y = conv(x) + bias. Few inputs: in <= 8. Few outputs:
// out <= 4, in a multiple of 8. Weights as f32 fit kNarrowConvBytes: kernel * in * out (out counted
// as 4 for few outputs).
struct NarrowConvArgs {
  PlainConvArgs conv;  // y unused
  Typed bias;
  TypedOut y;
};
inline constexpr int64_t kNarrowConvInputs = 8;
inline constexpr int64_t kNarrowConvOutputs = 4;
inline constexpr int64_t kNarrowConvBytes = 96 << 10;
// The same on tensor cores: x and weight f16 or bf16, the same; addresses aligned to 16 bytes.
// Few inputs: at most 80 terms, outputs a multiple of 32, fewer than 2^30 pixels,
// few_inputs_mma_bytes() of shared memory.
// Few outputs: 3x3, stride 1, inputs a multiple of 64.
inline constexpr int64_t kNarrowConvTerms = 80;
[[nodiscard]] constexpr size_t few_inputs_mma_bytes(int64_t terms, int64_t out) {
  return static_cast<size_t>((128 + out) * ((terms + 15) / 16 * 16 + 8) * 2);
}
void launch_conv_few_inputs_mma(const NarrowConvArgs& args, cudaStream_t stream);
void launch_conv_few_outputs_mma(const NarrowConvArgs& args, cudaStream_t stream);
void launch_conv_few_inputs(const NarrowConvArgs& args, cudaStream_t stream);
void launch_conv_few_outputs(const NarrowConvArgs& args, cudaStream_t stream);

// Rows of q, k, v and y are `pitch` elements apart; head h owns channels [h * d, (h + 1) * d).
struct AttentionArgs {
  Typed q, k, v;
  TypedOut y;
  int64_t batch = 0, queries = 0, keys = 0, heads = 0, head_dim = 0;
  int64_t q_pitch = 0, k_pitch = 0, v_pitch = 0, y_pitch = 0;
  float scale = 1;
  bool causal = false;
};
inline constexpr int64_t kPlainAttentionMaxHeadDim = 512;
// Keys and values of a head in shared memory; head_dim a multiple of 8.
inline constexpr int64_t kShortAttentionMaxKeys = 128;
inline constexpr int64_t kShortAttentionMaxHeadDim = 128;
void launch_short_attention(const AttentionArgs& args, cudaStream_t stream);
void launch_plain_attention(const AttentionArgs& args, cudaStream_t stream);

// The same with parts in 8 bits (graph/ops/attention.h). A scale is null for values that are no
// codes; it has one element for each head's part of a token where `by_part`, else one. `rounds`:
// weights are rounded to f8e4m3.
struct CodesAttentionArgs {
  AttentionArgs base;
  const float* q_scale = nullptr;
  const float* k_scale = nullptr;
  const float* v_scale = nullptr;
  bool q_by_part = false, k_by_part = false;
  bool rounds = false;
};
void launch_codes_attention(const CodesAttentionArgs& args, cudaStream_t stream);

// y = x - mean of x over the tokens, x [batch, tokens, channels].
struct CenterArgs {
  Typed x;
  TypedOut y;
  int64_t batch = 0, tokens = 0, channels = 0;
};
void launch_center(const CenterArgs& args, cudaStream_t stream);

// Softmax of f32 scores [rows, keys] without the division: weights [rows, keys] in `dtype` =
// exp(scale * (s - max)), sums [rows] f32.
void launch_softmax_rows(const float* scores, void* weights, DType dtype, float* sums, int64_t rows,
                         int64_t keys, float scale, cudaStream_t stream);
// y[r, :] = x[r, :] / sums[r]; y's rows are `pitch` elements apart.
void launch_divide_rows(const float* x, const float* sums, TypedOut y, int64_t rows, int64_t cols,
                        int64_t pitch, cudaStream_t stream);

}  // namespace halftone::backend::cuda
