// Group normalisation in one launch, where groups of an image fit into the shared memory of a
// cluster: x is read once and kept, the blocks of the cluster tell each other what they measured.
// Few rows stay in registers, and a block that has whole groups tells nobody. Sums have a fixed
// order.
#include <algorithm>
#include <array>
#include <limits>

#include <cooperative_groups.h>

#include "backend/cuda/hopper/cluster_launch.h"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/vectors.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kHeldRows = 6;           // of a thread, in registers
constexpr int kMostBundled = kWarps;   // a warp, at least, merges a group
constexpr int64_t kLeastColumns = 32;  // of a bundle: whole sectors
constexpr int kMostSlices = 8;
constexpr int64_t kMostBytes = 200 * 1024;
// What blocks tell each other takes as long as this many rows of a thread.
constexpr int64_t kExchange = 3;

// How a tensor is divided: a cluster has `bundle` groups (a power of two), whole vectors of eight
// columns, of an image, each of its `slices` blocks `rows` rows of them (the last may have fewer).
struct Division {
  int bundle = 1;
  int slices = 0;  // 0: it does not fit
  int rows = 0;
  int bytes = 0;  // of shared memory for what a block keeps; 0: registers hold it
};

// The fewest groups that are whole vectors and sectors; 0 = there are none.
int64_t smallest_bundle(const GroupNormArgs& a) {
  const int64_t width = a.channels / a.groups;
  if (width != 4 && width < 8) return 0;
  int64_t bundle = 1;
  const auto grows = [&] {
    return bundle * width % 8 != 0 ||
           (bundle * width < kLeastColumns && 2 * bundle <= kMostBundled);
  };
  while (grows() && a.groups % (2 * bundle) == 0) bundle *= 2;
  return bundle * width % 8 == 0 && bundle <= kMostBundled ? bundle : 0;
}

// What takes the fewest rows of a thread, wave by wave. `at_once`: clusters of so many blocks that
// the device runs side by side, which is fewer than its multiprocessors would be enough for.
template <class AtOnce>
Division divide(const GroupNormArgs& a, AtOnce at_once) {
  const int64_t smallest = smallest_bundle(a);
  if (smallest == 0) return {};
  Division best;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t bundle = smallest; bundle <= kMostBundled && a.groups % bundle == 0; bundle *= 2) {
    const int64_t vectors = bundle * (a.channels / a.groups) / 8;
    if (vectors > kThreads) break;
    const int64_t lanes = kThreads / vectors;
    const int64_t clusters = a.groups / bundle * a.n;
    for (int64_t slices = 1; slices <= kMostSlices; ++slices) {
      const int64_t rows = (a.rows + slices - 1) / slices;
      const int64_t of_thread = (rows + lanes - 1) / lanes;
      const int64_t bytes =
          of_thread <= kHeldRows ? 0 : of_thread * kThreads * int64_t{sizeof(uint4)};
      const int64_t side_by_side = std::max<int64_t>(at_once(static_cast<int>(slices)), 1);
      const int64_t waves = (clusters + side_by_side - 1) / side_by_side;
      const int64_t cost = waves * (of_thread + (slices > 1 ? kExchange : 0));
      if (bytes > kMostBytes || cost >= least) continue;
      least = cost;
      best = {static_cast<int>(bundle), static_cast<int>(slices), static_cast<int>(rows),
              static_cast<int>(bytes)};
    }
  }
  return best;
}

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

// What a block shares: sums about the first value of a group in its rows, of threads and of warps;
// what every block of the cluster measured, mean and sum of squared deviations of its groups; then
// the statistics of the whole.
struct Exchange {
  float4 parts[kThreads];
  float2 of_warps[kWarps];
  float2 measured[kMostSlices][kMostBundled];
  float means[kMostBundled], inverses[kMostBundled];
  float x_inverse;
};

// A warp's share of a group's sums. The warps of a group are neighbours.
__device__ __forceinline__ void merge_threads(Exchange& shared, const Place& place,
                                              const Division& d, int width) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int together = kWarps / d.bundle;
  const int group = warp / together;
  const int first = group * width / 8;
  const int chunks = (group * width + width - 1) / 8 - first + 1;
  float sum = 0.0F;
  float square = 0.0F;
  for (int lane = static_cast<int>(threadIdx.x) - group * together * 32; lane < place.lanes;
       lane += together * 32) {
    const float4* parts = shared.parts + lane * place.vectors + first;
#pragma unroll 4
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const bool begins_inside = (first + chunk) * 8 < group * width;
      sum += begins_inside ? parts[chunk].z : parts[chunk].x;
      square += begins_inside ? parts[chunk].w : parts[chunk].y;
    }
  }
  sum = warp_sum(sum);
  square = warp_sum(square);
  if (threadIdx.x % 32 == 0) shared.of_warps[warp] = make_float2(sum, square);
}

// What a block measured of a group, from its warps' sums about `shift`.
__device__ __forceinline__ float2 merge_warps(const Exchange& shared, const Division& d, int group,
                                              float shift, float count) {
  const int together = kWarps / d.bundle;
  float sum = 0.0F;
  float square = 0.0F;
#pragma unroll 4
  for (int i = 0; i < together; ++i) {
    const float2 part = shared.of_warps[group * together + i];
    sum += part.x;
    square += part.y;
  }
  const float mean = count > 0.0F ? __fdividef(sum, count) : 0.0F;
  return make_float2(shift + mean, fmaxf(fmaf(-mean, sum, square), 0.0F));
}

// Mean and inverse deviation of a group, from what the blocks measured, about the first one's mean.
__device__ __forceinline__ void merge_blocks(Exchange& shared, const GroupNormArgs& a,
                                             const Division& d, int group, int width) {
  const float about = shared.measured[0][group].x;
  float total = 0.0F;
  float squares = 0.0F;
#pragma unroll 4
  for (int slice = 0; slice < d.slices; ++slice) {
    const float2 m = shared.measured[slice][group];
    const float n = static_cast<float>(rows_of(a, d, slice)) * static_cast<float>(width);
    const float off = m.x - about;
    total = fmaf(n, off, total);
    squares += fmaf(n * off, off, m.y);
  }
  const float all = static_cast<float>(a.rows) * static_cast<float>(width);
  const float delta = __fdividef(total, all);
  shared.means[group] = about + delta;
  shared.inverses[group] =
      rsqrtf(__fdividef(fmaxf(fmaf(-delta, total, squares), 0.0F), all) + a.eps);
}

// From the threads' sums to the statistics of whole groups. `shift`: of group
// threadIdx.x % d.bundle in this block's rows. The cluster's blocks have arrived once before.
__device__ __forceinline__ void merge_all(Exchange& shared, const Place& place,
                                          const GroupNormArgs& a, const Division& d, int width,
                                          float shift) {
  const auto thread = static_cast<int>(threadIdx.x);
  const auto slice = static_cast<int>(blockIdx.x);
  __syncthreads();
  merge_threads(shared, place, d, width);
  __syncthreads();
  const auto cluster = cooperative_groups::this_cluster();
  if (d.slices > 1) cluster.barrier_wait();  // all of them run
  if (thread < d.bundle * d.slices) {
    const int group = thread % d.bundle;
    const float count = static_cast<float>(rows_of(a, d, slice)) * static_cast<float>(width);
    const float2 measured = merge_warps(shared, d, group, shift, count);
    *cluster.map_shared_rank(&shared.measured[slice][group], thread / d.bundle) = measured;
  }
  if (d.slices > 1) {
    cluster.sync();
  } else {
    __syncwarp();
  }
  if (thread < d.bundle) merge_blocks(shared, a, d, thread, width);
  __syncthreads();
}

// kHeld: a thread has at most kHeldRows rows, which stay in registers.
template <int kX, int kY, int kAct, bool kHeld>
__global__ void __launch_bounds__(kThreads, 1)
    cluster_kernel(const __grid_constant__ GroupNormArgs a, const __grid_constant__ Division d) {
  constexpr int kInFlight = kHeld ? kHeldRows : 8;
  extern __shared__ __align__(16) uint4 kept[];  // a thread's own
  __shared__ Exchange shared;
  if (d.slices > 1) cooperative_groups::this_cluster().barrier_arrive();
  const auto thread = static_cast<int>(threadIdx.x);
  const auto channels = static_cast<int>(a.channels);
  const int width = channels / static_cast<int>(a.groups);
  const Place place(d, width);
  const auto slice = static_cast<int>(blockIdx.x);
  const int rows = rows_of(a, d, slice);
  const int first_column = static_cast<int>(blockIdx.y) * d.bundle * width;
  const int column = first_column + place.vector * 8;
  const int64_t first_row = blockIdx.z * a.rows + int64_t{slice} * d.rows;
  const NormSource source(a, column);
  const int64_t from = source.at(first_row + place.lane);
  const int step = place.lanes * source.pitch;
  const bool reads = place.lane < place.lanes && rows > place.lane;
  const int count = reads ? (rows - place.lane - 1) / place.lanes + 1 : 0;
  const bool coded = a.y_scale != nullptr;
  follow_previous_kernel();
  const auto first_of = [&](int group) {
    const NormSource of_group(a, first_column + group * width);
    return rows > 0 ? load1(of_group.x.data, a.x.dtype, of_group.at(first_row)) : 0.0F;
  };
  // Reciprocals come when rows are on their way: they wait for what they are made of.
  const float y_scale = coded ? *a.y_scale : 1.0F;
  Elements<8, kX> x[kInFlight];
  const auto read_rows = [&](int i) {
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      x[k].read(source.x, from + static_cast<int64_t>(min(i + k, count - 1)) * step);
    }
  };
  float scale[8], shift[8];
  if (count > 0) read_rows(0);
  const float first = first_of(place.group);
  const float second = place.split < 8 ? first_of(place.group + 1) : 0.0F;
  const float shift_of_group = first_of(thread % d.bundle);
  load(a.gamma.data, a.gamma.dtype, column, scale);
  load(a.beta.data, a.beta.dtype, column, shift);
  float sum[8] = {};
  float square[8] = {};
  for (int i = 0; i < count;) {
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (i + k >= count) break;
      if constexpr (!kHeld) kept[(i + k) * kThreads + thread] = x[k].raw;
      float v[8];
      x[k].unpack(v);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const float off = v[c] - (c < place.split ? first : second);
        sum[c] += off;
        square[c] = fmaf(off, off, square[c]);
      }
    }
    i += kInFlight;
    if (!kHeld && i < count) read_rows(i);
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
  shared.parts[thread] = part;
  if constexpr (kHeld) {
    // Else the compiler keeps the floats that it has made of them, twice as many registers.
#pragma unroll
    for (Elements<8, kX>& row : x) {
      asm volatile("" : "+r"(row.raw.x), "+r"(row.raw.y), "+r"(row.raw.z), "+r"(row.raw.w));
    }
  }
  const float y_inverse = coded ? inverse_of(y_scale) : 1.0F;
  if (thread == kThreads - 1) shared.x_inverse = joined_inverse(a);
  merge_all(shared, place, a, d, width, shift_of_group);
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    const int group = place.group + (c < place.split ? 0 : 1);
    scale[c] *= shared.inverses[group];
    shift[c] = fmaf(-shared.means[group], scale[c], shift[c]);
  }
  const auto write_row = [&](const Elements<8, kX>& row, int i) {
    const int64_t at = (first_row + place.lane + int64_t{i} * place.lanes) * channels + column;
    float v[8];
    row.unpack(v);
    if (a.joined.data != nullptr) write_joined<kX, kY>(a, at, row, v, shared.x_inverse);
#pragma unroll
    for (int c = 0; c < 8; ++c) v[c] = fmaf(v[c], scale[c], shift[c]);
    activate_all(static_cast<Act>(kAct), v);
    write<kY>(a.y, a.format, coded, at, v, y_inverse);
  };
  if constexpr (kHeld) {
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (k < count) write_row(x[k], k);
    }
  } else {
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      Elements<8, kX> row;
      row.raw = kept[i * kThreads + thread];
      write_row(row, i);
    }
  }
}

// Clusters of 1 to kMostSlices blocks that the process's device runs at once: multiprocessors come
// in groups, and a cluster lies in one of them. Registers leave room for one block on a
// multiprocessor, whatever memory it asks for.
int clusters_at_once(int slices) {
  static const std::array<int, kMostSlices + 1> kKnown = [] {
    const auto* function = reinterpret_cast<const void*>(
        &cluster_kernel<kF16, kF16, static_cast<int>(Act::kNone), false>);
    std::array<int, kMostSlices + 1> known{};
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(kMostBytes)),
          "raising a norm's shared memory");
    for (int of = 1; of <= kMostSlices; ++of) {
      const hopper::ClusterLaunch launch(dim3(static_cast<unsigned>(of)), of, kThreads,
                                         static_cast<int>(kMostBytes), nullptr);
      check(
          cudaOccupancyMaxActiveClusters(&known[static_cast<size_t>(of)], function, &launch.config),
          "counting a norm's clusters");
    }
    return known;
  }();
  return kKnown[static_cast<size_t>(slices)];
}

template <int kX, int kY, int kAct>
void run(const GroupNormArgs& a, const Division& d, cudaStream_t stream) {
  const auto* function = d.bytes == 0
                             ? reinterpret_cast<const void*>(&cluster_kernel<kX, kY, kAct, true>)
                             : reinterpret_cast<const void*>(&cluster_kernel<kX, kY, kAct, false>);
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
  if (a.channels % 8 != 0 || a.split % 8 != 0) return "wants a multiple of 8 channels";
  if (a.n * a.rows * a.channels == 0) return "nothing to compute";
  // Whether there is one at all is no matter of how many run at once.
  if (divide(a, [](int) { return 1; }).slices == 0) return "groups do not fit into a cluster";
  return {};
}

void launch_group_norm_clusters(const GroupNormArgs& a, cudaStream_t stream) {
  const Division d = divide(a, clusters_at_once);
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
