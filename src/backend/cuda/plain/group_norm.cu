// Group normalisation: one kernel for statistics, unless what made x took them, and one that
// applies them. Means and centred squares of pieces are merged in a fixed order about the common
// mean: the same bits every run, and no cancellation over a million pixels.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/vectors.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kMergeLanes = 16;      // threads that merge the pieces of a group
constexpr int kMergeThreads = 1024;  // of a block that does nothing else
constexpr int kRowsInFlight = 4;
constexpr int kStatisticsRowsInFlight = 8;
// One wave: all blocks merge the statistics first.
constexpr int64_t kBlocksPerSm = 2;
constexpr int64_t kSms = 132;

struct Rows {
  int first, count;
};

// Piece `piece` of an image's rows, `size` a piece; the last ones may be shorter or empty.
__device__ __forceinline__ Rows piece_of(const GroupNormArgs& a, int piece, int size) {
  const int first = piece * size;
  return {first, max(min(size, static_cast<int>(a.rows) - first), 0)};
}

// A block's threads as row lanes: each thread holds one vector of columns and every row_lanes-th
// row.
__host__ __device__ __forceinline__ int row_lanes_of(int vectors) {
  return vectors < kThreads ? kThreads / vectors : 1;
}

// Calls f(group, lane, valid) for every group with kMergeLanes threads; all threads of a warp come
// along, `valid` or not.
template <class F>
__device__ __forceinline__ void for_groups(int groups, F f) {
  constexpr int kGroupsPerWarp = 32 / kMergeLanes;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int part = static_cast<int>(threadIdx.x) % 32 / kMergeLanes;
  for (int first = warp * kGroupsPerWarp; first < groups; first += kThreads / kMergeLanes) {
    f(first + part, static_cast<int>(threadIdx.x) % kMergeLanes, first + part < groups);
  }
}

// What a thread adds up of its columns, about the first value it saw.
template <int kWidth>
struct ColumnSums {
  float shift[kWidth] = {}, sum[kWidth] = {}, square[kWidth] = {};

  __device__ __forceinline__ void add(const float (&v)[kWidth]) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float d = v[k] - shift[k];
      sum[k] += d;
      square[k] = fmaf(d, d, square[k]);
    }
  }
  // Means and centred squares of `count` rows.
  __device__ __forceinline__ void store(int count, float* mean, float* squares) const {
    const float inverse = count > 0 ? 1.0F / static_cast<float>(count) : 0.0F;
    float m[kWidth], s[kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      m[k] = fmaf(sum[k], inverse, shift[k]);
      s[k] = fmaxf(square[k] - sum[k] * sum[k] * inverse, 0.0F);
    }
    if constexpr (kWidth == 8) {
      *reinterpret_cast<float4*>(mean) = make_float4(m[0], m[1], m[2], m[3]);
      *reinterpret_cast<float4*>(mean + 4) = make_float4(m[4], m[5], m[6], m[7]);
      *reinterpret_cast<float4*>(squares) = make_float4(s[0], s[1], s[2], s[3]);
      *reinterpret_cast<float4*>(squares + 4) = make_float4(s[4], s[5], s[6], s[7]);
    } else {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) mean[k] = m[k], squares[k] = s[k];
    }
  }
};

// Merges pieces of known means and centred squares, about the first piece's mean. That one is a
// sample itself, so what cancels is at most as many times the result as there are pieces.
struct Merge {
  float shift, count = 0, sum = 0, square = 0;

  __device__ __forceinline__ void add(float n, float mean, float squares) {
    const float d = mean - shift;
    count += n;
    sum = fmaf(n, d, sum);
    square += fmaf(n * d, d, squares);
  }
  // Mean and centred squares, of what kLanes threads have together. `parts`: of reduce_row, three
  // times.
  template <int kLanes>
  [[nodiscard]] __device__ __forceinline__ float2 finish(float* parts = nullptr) {
    constexpr int kParts = kLanes > 32 ? kLanes / 32 : 0;
    count = sum_row<kLanes>(count, parts);
    sum = sum_row<kLanes>(sum, parts + kParts);
    square = sum_row<kLanes>(square, parts + 2 * kParts);
    const float delta = sum / fmaxf(count, 1.0F);
    return make_float2(shift + delta, fmaxf(fmaf(-delta, sum, square), 0.0F));
  }
};

// Merges a block's columns to groups and writes the piece's statistics.
__device__ void merge_columns(const GroupNormArgs& a, int rows, int row_lanes, const float* mean,
                              const float* squares) {
  const auto channels = static_cast<int>(a.channels);
  const auto groups = static_cast<int>(a.groups);
  const int per_group = channels / groups;
  const int size = rows / row_lanes;
  const int larger = rows - size * row_lanes;
  for_groups(groups, [&](int group, int lane, bool valid) {
    const int first = valid ? group * per_group : 0;
    const int end = valid ? first + per_group : 0;
    Merge merge{mean[first]};
    for (int c = first + lane; c < end; c += kMergeLanes) {
#pragma unroll 4
      for (int r = 0; r < row_lanes; ++r) {
        const int at = r * channels + c;
        merge.add(static_cast<float>(size + (r < larger ? 1 : 0)), mean[at], squares[at]);
      }
    }
    const float2 merged = merge.finish<kMergeLanes>();
    if (valid && lane == 0) {
      const int64_t at = (static_cast<int64_t>(blockIdx.y) * groups + group) * a.pieces;
      reinterpret_cast<float2*>(a.statistics)[at + blockIdx.x] = merged;
    }
  });
}

// Block (piece, n).
template <int kWidth, int kType>
__global__ void __launch_bounds__(kThreads, kType == kAny ? 1 : 2)
    statistics_kernel(const __grid_constant__ GroupNormArgs a) {
  constexpr int kInFlight = kType == kAny ? kRowsInFlight : kStatisticsRowsInFlight;
  extern __shared__ __align__(16) float columns[];  // means, then squares: [row_lanes][channels]
  const auto channels = static_cast<int>(a.channels);
  if (blockIdx.x == 0 && blockIdx.y == 0 && a.gamma.data != nullptr) {  // for the next kernel
    prefetch(a.gamma, channels);
    prefetch(a.beta, channels);
  }
  const auto piece = piece_of(a, static_cast<int>(blockIdx.x), a.piece_rows);
  const int vectors = channels / kWidth;
  const int row_lanes = row_lanes_of(vectors);
  const int64_t first_row = blockIdx.y * a.rows + piece.first;
  float* mean = columns;
  float* squares = columns + row_lanes * channels;
  follow_previous_kernel();
  for (int item = static_cast<int>(threadIdx.x); item < row_lanes * vectors; item += kThreads) {
    const int lane = item / vectors;
    const int col = (item - lane * vectors) * kWidth;
    const int count = piece.count > lane ? (piece.count - lane - 1) / row_lanes + 1 : 0;
    const NormSource source(a, col);
    const int64_t from = source.at(first_row + lane);
    const int step = row_lanes * source.pitch;
    Elements<kWidth, kType> x[kInFlight];
    const auto read_rows = [&](int done) {
      const int64_t at = from + static_cast<int64_t>(done) * step;
      const int last = (count - 1 - done) * step;
#pragma unroll
      for (int r = 0; r < kInFlight; ++r) x[r].read(source.x, at + min(r * step, last));
    };
    ColumnSums<kWidth> sums;
    if (count > 0) {
      read_rows(0);
      x[0].unpack(sums.shift);
    }
    for (int done = 0; done < count;) {
#pragma unroll
      for (int r = 0; r < kInFlight; ++r) {
        if (done + r >= count) break;
        float v[kWidth];
        x[r].unpack(v);
        sums.add(v);
      }
      done += kInFlight;
      if (done < count) read_rows(done);
    }
    sums.store(count, mean + lane * channels + col, squares + lane * channels + col);
  }
  __syncthreads();
  merge_columns(a, piece.count, row_lanes, mean, squares);
}

// What one of kLanes threads merges of a group's pieces, kInFlight reads on their way at a time.
template <int kLanes>
__device__ __forceinline__ Merge merge_pieces(const GroupNormArgs& a, int64_t group, int lane) {
  constexpr int kInFlight = 8;
  const int per_group = static_cast<int>(a.channels / a.groups);
  const auto* pieces = reinterpret_cast<const float2*>(a.statistics) + group * a.pieces;
  Merge merge{pieces[0].x};
  for (int first = lane; first < a.pieces; first += kInFlight * kLanes) {
    float2 piece[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) piece[i] = pieces[min(first + i * kLanes, a.pieces - 1)];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int at = first + i * kLanes;
      const int rows = at < a.pieces ? piece_of(a, at, a.piece_rows).count : 0;
      merge.add(static_cast<float>(rows) * static_cast<float>(per_group), piece[i].x,
                at < a.pieces ? piece[i].y : 0.0F);
    }
  }
  return merge;
}

// Block: all pieces of a group of an image become one.
__global__ void __launch_bounds__(kMergeThreads)
    merge_kernel(const __grid_constant__ GroupNormArgs a) {
  __shared__ float parts[3 * kMergeThreads / 32];
  follow_previous_kernel();
  Merge merge = merge_pieces<kMergeThreads>(a, blockIdx.x, static_cast<int>(threadIdx.x));
  const float2 one = merge.finish<kMergeThreads>(parts);
  if (threadIdx.x == 0) reinterpret_cast<float2*>(a.merged)[blockIdx.x] = one;
}

// Mean and inverse deviation of every group of an image.
__device__ __forceinline__ void merge_groups(const GroupNormArgs& a, float* means,
                                             float* inverses) {
  const auto groups = static_cast<int>(a.groups);
  for_groups(groups, [&](int group, int lane, bool valid) {
    const int64_t of_all = static_cast<int64_t>(blockIdx.y) * groups + (valid ? group : 0);
    const float2 merged = merge_pieces<kMergeLanes>(a, of_all, lane).finish<kMergeLanes>();
    const float count = static_cast<float>(a.rows) * static_cast<float>(a.channels / groups);
    if (valid && lane == 0) {
      means[group] = merged.x;
      inverses[group] = rsqrtf(merged.y / count + a.eps);
    }
  });
}

// A thread's vector of columns: gamma and beta, then, with the statistics, y = x * scale + shift.
template <int kWidth>
struct Columns {
  float scale[kWidth], shift[kWidth];

  __device__ __forceinline__ void read(const GroupNormArgs& a, int col) {
    load(a.gamma.data, a.gamma.dtype, col, scale);
    load(a.beta.data, a.beta.dtype, col, shift);
  }
  __device__ __forceinline__ void normalise(int col, int per_group, const float* means,
                                            const float* inverses) {
    int group = col / per_group;
    int end = (group + 1) * per_group;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      if (col + k == end) ++group, end += per_group;
      scale[k] *= inverses[group];
      shift[k] = fmaf(-means[group], scale[k], shift[k]);
    }
  }
};

// Block (piece, n): `size` rows, from the last to the first, as the statistics kernel left the last
// ones in the cache. The first reads are on their way while the statistics are merged.
template <int kWidth, int kX, int kY, int kAct>
__global__ void __launch_bounds__(kThreads, kX == kAny ? 1 : kBlocksPerSm)
    apply_kernel(const __grid_constant__ GroupNormArgs a, int size) {
  __shared__ float means[kMostGroups], inverses[kMostGroups];
  __shared__ float x_inverse;  // a register that few kernels need
  const Act act = kAct == kAny ? a.act : static_cast<Act>(kAct);
  const auto channels = static_cast<int>(a.channels);
  const int vectors = channels / kWidth;
  const int row_lanes = row_lanes_of(vectors);
  const auto piece = piece_of(a, static_cast<int>(blockIdx.x), size);
  const int64_t first_row = blockIdx.y * a.rows + piece.first;
  const bool coded = a.y_scale != nullptr;
  follow_previous_kernel();
  // Reciprocals come when rows are on their way: they wait for what they are made of.
  const float y_scale = coded ? *a.y_scale : 1.0F;
  int item = static_cast<int>(threadIdx.x);
  int col = 0;
  int row = -1;  // the next one
  NormSource source(a, 0);
  Columns<kWidth> columns;
  Elements<kWidth, kX> x[kRowsInFlight];
  const auto read_rows = [&] {
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      x[r].read(source.x, source.at(first_row + max(row - r * row_lanes, 0)));
    }
  };
  const auto begin_item = [&] {
    const int lane = item / vectors;
    col = (item - lane * vectors) * kWidth;
    row = lane < row_lanes ? piece.count - 1 - lane : -1;
    if (row < 0) return;
    source = NormSource(a, col);
    read_rows();
    columns.read(a, col);
  };
  begin_item();
  merge_groups(a, means, inverses);
  const float y_inverse = coded ? inverse_of(y_scale) : 1.0F;
  if (threadIdx.x == kThreads - 1) x_inverse = joined_inverse(a);
  __syncthreads();
  while (true) {
    if (row >= 0) columns.normalise(col, channels / static_cast<int>(a.groups), means, inverses);
    while (row >= 0) {
#pragma unroll
      for (int r = 0; r < kRowsInFlight; ++r) {
        if (row - r * row_lanes < 0) break;
        const int64_t to = (first_row + row - r * row_lanes) * channels + col;
        float v[kWidth];
        x[r].unpack(v);
        if (a.joined.data != nullptr) write_joined<kX, kY>(a, to, x[r], v, x_inverse);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) v[k] = fmaf(v[k], columns.scale[k], columns.shift[k]);
        activate_all(act, v);
        write<kY>(a.y, a.format, coded, to, v, y_inverse);
      }
      row -= kRowsInFlight * row_lanes;
      if (row >= 0) read_rows();
    }
    item += kThreads;
    if (item >= row_lanes * vectors) return;
    begin_item();
  }
}

template <int kWidth, int kX>
void run_statistics(const GroupNormArgs& a, cudaStream_t stream) {
  const int row_lanes = row_lanes_of(static_cast<int>(a.channels) / kWidth);
  const size_t bytes = static_cast<size_t>(2 * row_lanes * a.channels) * sizeof(float);
  launch("group_norm, statistics", statistics_kernel<kWidth, kX>,
         dim3(static_cast<unsigned>(a.pieces), static_cast<unsigned>(a.n)), kThreads, bytes, stream,
         a);
}

// Many pieces become one.
GroupNormArgs with_few_pieces(GroupNormArgs a, cudaStream_t stream) {
  if (a.merged == nullptr) return a;
  launch("group_norm, merging", merge_kernel, dim3(static_cast<unsigned>(a.n * a.groups)),
         kMergeThreads, 0, stream, a);
  a.statistics = a.merged;
  a.pieces = 1;
  a.piece_rows = static_cast<int>(a.rows);
  return a;
}

template <int kWidth, int kX, int kY, int kAct>
void run(const GroupNormArgs& a, cudaStream_t stream) {
  if (!a.measured) run_statistics<kWidth, kX>(a, stream);
  const GroupNormArgs merged = with_few_pieces(a, stream);
  const int row_lanes = row_lanes_of(static_cast<int>(a.channels) / kWidth);
  const int64_t most =
      std::clamp<int64_t>(a.rows / row_lanes, 1, std::max<int64_t>(kBlocksPerSm * kSms / a.n, 1));
  const int64_t size = (a.rows + most - 1) / most;
  const int64_t blocks = (a.rows + size - 1) / size;
  launch("group_norm", apply_kernel<kWidth, kX, kY, kAct>,
         dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(a.n)), kThreads, 0, stream,
         merged, static_cast<int>(size));
}

// Vectors of eight columns, each in one of the parts.
bool reads_eight(const GroupNormArgs& a) {
  return takes_eight(a.x.data, a.x.dtype, a.split) &&
         (a.x2.data == nullptr || takes_eight(a.x2.data, a.x.dtype, a.channels - a.split));
}

bool joins_eight(const GroupNormArgs& a) {
  return a.joined.data == nullptr || is_aligned(a.joined.data, 32);
}

}  // namespace

void launch_group_statistics(const GroupNormArgs& a, cudaStream_t stream) {
  if (a.n * a.rows * a.channels == 0) return;
  if (!reads_eight(a)) return run_statistics<1, kAny>(a, stream);
  if (a.x.dtype == DType::kF16) return run_statistics<8, kF16>(a, stream);
  if (a.x.dtype == DType::kBF16) return run_statistics<8, kBF16>(a, stream);
  run_statistics<8, kAny>(a, stream);
}

void launch_group_norm(const GroupNormArgs& a, cudaStream_t stream) {
  if (a.n * a.rows * a.channels == 0) return;
  const bool coded = a.y_scale != nullptr;
  const bool eight_out =
      coded ? is_aligned(a.y.data, 8) : takes_eight(a.y.data, a.y.dtype, a.channels);
  if (!eight_out || !reads_eight(a) || !joins_eight(a) ||
      !takes_eight(a.gamma.data, a.gamma.dtype, a.channels) ||
      !takes_eight(a.beta.data, a.beta.dtype, a.channels)) {
    return run<1, kAny, kAny, kAny>(a, stream);
  }
  const auto with_act = [&]<int kX, int kY>(KnownTypes<kX, kY>) {
    if constexpr (kX != kAny) {
      if (a.act == Act::kNone) return run<8, kX, kY, static_cast<int>(Act::kNone)>(a, stream);
      if (a.act == Act::kSilu) return run<8, kX, kY, static_cast<int>(Act::kSilu)>(a, stream);
    }
    run<8, kAny, kAny, kAny>(a, stream);
  };
  with_known_types(a.x.dtype, a.y.dtype, coded ? &a.format : nullptr, with_act);
}

}  // namespace halftone::backend::cuda
