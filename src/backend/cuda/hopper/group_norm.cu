// Group normalisation in one launch, where groups of an image fit into the shared memory of a
// cluster: x is read once and kept, the blocks of the cluster tell each other what they measured.
// Sums have a fixed order.
#include <algorithm>

#include <cooperative_groups.h>

#include "backend/cuda/hopper/cluster_launch.h"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/vectors.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kInFlight = 8;
constexpr int kMostBundled = kThreads / 32;  // a warp merges a group
constexpr int64_t kLeastColumns = 32;        // of a bundle: whole sectors
constexpr int64_t kMostSlices = 8;
constexpr int64_t kEnoughBlocks = 100;
constexpr int64_t kMostBytes = 200 * 1024;

// How a tensor is divided: a cluster has `bundle` groups, whole vectors of eight columns, of an
// image, each of its `slices` blocks `rows` rows of them (the last may have fewer).
struct Division {
  int bundle = 1;
  int slices = 0;  // 0: it does not fit
  int rows = 0;
  int bytes = 0;  // of what a block keeps
};

Division divide(const GroupNormArgs& a) {
  const int64_t width = a.channels / a.groups;
  if (width != 4 && width < 8) return {};
  int64_t bundle = 1;
  const auto grows = [&] {
    return bundle * width % 8 != 0 ||
           (bundle * width < kLeastColumns && 2 * bundle <= kMostBundled);
  };
  while (grows() && a.groups % (2 * bundle) == 0) bundle *= 2;
  if (bundle * width % 8 != 0 || bundle > kMostBundled) return {};
  const int64_t vectors = bundle * width / 8;
  if (vectors > kThreads) return {};
  const int64_t lanes = kThreads / vectors;
  const int64_t clusters = a.groups / bundle * a.n;
  for (int64_t slices = 1; slices <= kMostSlices; slices *= 2) {
    const int64_t rows = (a.rows + slices - 1) / slices;
    const int64_t bytes = (rows + lanes - 1) / lanes * kThreads * int64_t{sizeof(uint4)};
    const bool enough = clusters * slices >= kEnoughBlocks || slices == kMostSlices;
    if (bytes > kMostBytes || !enough) continue;
    return {static_cast<int>(bundle), static_cast<int>(slices), static_cast<int>(rows),
            static_cast<int>(bytes)};
  }
  return {};
}

// Mean and sum of squared deviations of the groups that a block has.
struct Measured {
  float2 of_group[kMostBundled];
};

// Rows of slice `slice`.
__device__ __forceinline__ int rows_of(const GroupNormArgs& a, const Division& d, int slice) {
  return max(min(d.rows, static_cast<int>(a.rows) - slice * d.rows), 0);
}

// A thread's vector of eight columns: the group it begins in and how many of them belong to that.
struct Place {
  int vectors, lanes, lane, vector, group, split;

  __device__ __forceinline__ Place(const Division& d, int width)
      : vectors(d.bundle * width / 8),
        lanes(kThreads / vectors),
        lane(static_cast<int>(threadIdx.x) / vectors),
        vector(static_cast<int>(threadIdx.x) - lane * vectors),
        group(vector * 8 / width),
        split((group + 1) * width - vector * 8) {}
};

// Warp w: group w of the block, from what its threads summed up about the group's first value.
__device__ __forceinline__ void merge_threads(const float4* parts, const Place& place, int width,
                                              float count, float shift, Measured& measured) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first = warp * width / 8;
  const int chunks = (warp * width + width - 1) / 8 - first + 1;
  float sum = 0.0F;
  float square = 0.0F;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < place.lanes * chunks; i += 32) {
    const int lane = i / chunks;
    const int chunk = first + i - lane * chunks;
    const float4 part = parts[lane * place.vectors + chunk];
    const bool begins_inside = chunk * 8 < warp * width;
    sum += begins_inside ? part.z : part.x;
    square += begins_inside ? part.w : part.y;
  }
  sum = warp_sum(sum);
  square = warp_sum(square);
  const float mean = count > 0.0F ? sum / count : 0.0F;
  if (threadIdx.x % 32 == 0) {
    measured.of_group[warp] = make_float2(shift + mean, fmaxf(fmaf(-mean, sum, square), 0.0F));
  }
}

template <int kX, int kY, int kAct>
__global__ void __launch_bounds__(kThreads, 1)
    cluster_kernel(const __grid_constant__ GroupNormArgs a, const __grid_constant__ Division d) {
  extern __shared__ __align__(16) uint4 kept[];  // a thread's own
  __shared__ float4 parts[kThreads];
  __shared__ Measured measured;
  __shared__ float means[kMostBundled], inverses[kMostBundled];
  const auto cluster = cooperative_groups::this_cluster();
  const auto thread = static_cast<int>(threadIdx.x);
  const auto channels = static_cast<int>(a.channels);
  const int width = channels / static_cast<int>(a.groups);
  const Place place(d, width);
  const auto slice = static_cast<int>(blockIdx.x);
  const int rows = rows_of(a, d, slice);
  const int first_column = static_cast<int>(blockIdx.y) * d.bundle * width;
  const int column = first_column + place.vector * 8;
  const int64_t base = (blockIdx.z * a.rows + int64_t{slice} * d.rows) * channels;
  const int64_t from = base + int64_t{place.lane} * channels + column;
  const int step = place.lanes * channels;
  const bool reads = place.lane < place.lanes && rows > place.lane;
  const int count = reads ? (rows - place.lane - 1) / place.lanes + 1 : 0;
  const bool coded = a.y_scale != nullptr;
  follow_previous_kernel();
  const auto first_of = [&](int group) {
    return rows > 0 ? load1(a.x.data, a.x.dtype, base + first_column + group * width) : 0.0F;
  };
  const float y_inverse = coded ? inverse_of(*a.y_scale) : 1.0F;
  const float first = first_of(place.group);
  const float second = place.split < 8 ? first_of(place.group + 1) : 0.0F;
  float sum[8] = {};
  float square[8] = {};
  for (int i = 0; i < count; i += kInFlight) {
    Elements<8, kX> x[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      x[k].read(a.x, from + static_cast<int64_t>(min(i + k, count - 1)) * step);
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (i + k >= count) break;
      kept[(i + k) * kThreads + thread] = x[k].raw;
      float v[8];
      x[k].unpack(v);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const float off = v[c] - (c < place.split ? first : second);
        sum[c] += off;
        square[c] = fmaf(off, off, square[c]);
      }
    }
  }
  float4 part = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    const bool in_first = c < place.split;
    part.x += in_first ? sum[c] : 0.0F;
    part.y += in_first ? square[c] : 0.0F;
    part.z += in_first ? 0.0F : sum[c];
    part.w += in_first ? 0.0F : square[c];
  }
  parts[thread] = part;
  float scale[8], shift[8];
  load(a.gamma.data, a.gamma.dtype, column, scale);
  load(a.beta.data, a.beta.dtype, column, shift);
  __syncthreads();
  if (thread / 32 < d.bundle) {
    merge_threads(parts, place, width, static_cast<float>(rows) * static_cast<float>(width),
                  first_of(thread / 32), measured);
  }
  cluster.sync();
  if (thread < d.bundle) {
    const float about = cluster.map_shared_rank(&measured, 0)->of_group[thread].x;
    float total = 0.0F;
    float squares = 0.0F;
    for (int other = 0; other < d.slices; ++other) {
      const float2 m = cluster.map_shared_rank(&measured, other)->of_group[thread];
      const float n = static_cast<float>(rows_of(a, d, other)) * static_cast<float>(width);
      const float off = m.x - about;
      total = fmaf(n, off, total);
      squares += fmaf(n * off, off, m.y);
    }
    const float all = static_cast<float>(a.rows) * static_cast<float>(width);
    const float delta = total / all;
    means[thread] = about + delta;
    inverses[thread] = rsqrtf(fmaxf(fmaf(-delta, total, squares), 0.0F) / all + a.eps);
  }
  cluster.barrier_arrive();  // this block has read what it wants of the others
  __syncthreads();
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    const int group = place.group + (c < place.split ? 0 : 1);
    scale[c] *= inverses[group];
    shift[c] = fmaf(-means[group], scale[c], shift[c]);
  }
#pragma unroll 4
  for (int i = 0; i < count; ++i) {
    Elements<8, kX> x;
    x.raw = kept[i * kThreads + thread];
    float v[8];
    x.unpack(v);
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      v[c] = activate(static_cast<Act>(kAct), fmaf(v[c], scale[c], shift[c]));
    }
    write<kY>(a.y, a.format, coded, from + static_cast<int64_t>(i) * step, v, y_inverse);
  }
  cluster.barrier_wait();
}

template <int kX, int kY, int kAct>
void run(const GroupNormArgs& a, const Division& d, cudaStream_t stream) {
  const auto* function = reinterpret_cast<const void*>(&cluster_kernel<kX, kY, kAct>);
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kMostBytes)),
        "raising a norm's shared memory");
  const dim3 blocks(static_cast<unsigned>(d.slices), static_cast<unsigned>(a.groups / d.bundle),
                    static_cast<unsigned>(a.n));
  const hopper::ClusterLaunch launch(blocks, static_cast<int>(d.slices), kThreads,
                                     static_cast<int>(d.bytes), stream);
  void* arguments[] = {const_cast<GroupNormArgs*>(&a), const_cast<Division*>(&d)};
  check(cudaLaunchKernelExC(&launch.config, function, arguments), "launching a norm of clusters");
}

}  // namespace

std::string_view clusters_refusal(const GroupNormArgs& a) {
  if (a.measured) return "x is measured already";
  if (a.x.dtype != DType::kF16 && a.x.dtype != DType::kBF16) return "wants f16 or bf16";
  if (a.act != Act::kNone && a.act != Act::kSilu) return "applies SiLU only";
  if (a.channels % 8 != 0) return "wants a multiple of 8 channels";
  if (a.n * a.rows * a.channels == 0) return "nothing to compute";
  if (divide(a).slices == 0) return "groups do not fit into a cluster";
  return {};
}

void launch_group_norm_clusters(const GroupNormArgs& a, cudaStream_t stream) {
  const Division d = divide(a);
  const bool coded = a.y_scale != nullptr;
  with_known_types(a.x.dtype, a.y.dtype, coded ? &a.format : nullptr,
                   [&]<int kX, int kY>(KnownTypes<kX, kY>) {
                     if constexpr (kX != kAny) {
                       if (a.act == Act::kNone)
                         return run<kX, kY, static_cast<int>(Act::kNone)>(a, d, stream);
                       return run<kX, kY, static_cast<int>(Act::kSilu)>(a, d, stream);
                     }
                   });
}

}  // namespace halftone::backend::cuda
