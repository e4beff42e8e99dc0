// The kernel: y = epilogue(a * b^T), linear or implicit-GEMM convolution, sm_90a. One producer warp
// feeds a ring of shared-memory stages through the copy engine, two consumer warpgroups run wgmma
// and the epilogue. Persistent: each cluster takes every n-th tile.
#pragma once

#include "backend/cuda/hopper/epilogue/epilogue.cuh"
#include "backend/cuda/hopper/epilogue/group_stats.cuh"
#include "backend/cuda/hopper/epilogue/interleave.cuh"
#include "backend/cuda/hopper/mma/wgmma.cuh"
#include "backend/cuda/hopper/ptx/tma.cuh"

namespace halftone::backend::cuda::hopper {

inline constexpr int kRasterRows =
    8;  // row tiles of clusters that are walked before the next column

// Tile numbers to positions: groups of kRasterRows row tiles, inside a group down, then across.
template <class T>
struct Raster {
  int rows;     // of tiles of a cluster
  int columns;  // of tiles

  __device__ explicit Raster(const KernelArgs& args)
      : rows((args.m + T::kBm * T::kCluster - 1) / (T::kBm * T::kCluster)),
        columns((args.n + T::kOutN - 1) / T::kOutN) {}
  [[nodiscard]] __device__ int tiles() const { return rows * columns; }
  [[nodiscard]] __device__ TilePosition at(int tile, int rank) const {
    const int group = tile / (kRasterRows * columns);
    const int first = group * kRasterRows;
    const int height = min(kRasterRows, rows - first);
    const int inside = tile - group * kRasterRows * columns;
    const int row = first + inside % height;
    return {(row * T::kCluster + rank) * T::kBm, inside / height * T::kOutN};
  }
};

// The ring of stages: `full` completes when a stage's bytes have arrived, `empty` when the
// consumers of all blocks that it was multicast to are done with it.
template <class T>
struct Ring {
  uint32_t data;
  uint32_t barriers;
  [[nodiscard]] __device__ uint32_t full(int stage) const { return barriers + stage * 16; }
  [[nodiscard]] __device__ uint32_t empty(int stage) const { return barriers + stage * 16 + 8; }
  [[nodiscard]] __device__ uint32_t a(int stage) const { return data + stage * T::kStageBytes; }
  [[nodiscard]] __device__ uint32_t b(int stage) const { return a(stage) + T::kBm * T::kRowBytes; }
  // Mbarrier of a consumer's residual tile.
  [[nodiscard]] __device__ uint32_t residual(int consumer) const {
    return barriers + T::kStages * 16 + consumer * 8;
  }
};

struct RingPosition {
  int stage = 0;
  uint32_t phase = 0;
  template <class T>
  __device__ __forceinline__ void next() {
    if (++stage == T::kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
  template <class T>
  __device__ __forceinline__ void skip(int steps) {
    const int at = stage + steps;
    phase ^= static_cast<uint32_t>(at / T::kStages) & 1;
    stage = at % T::kStages;
  }
};

template <class T>
__device__ __forceinline__ void load_weights(const KernelArgs& args, const Ring<T>& ring, int stage,
                                             int rank, int n, int channel, int tap) {
  constexpr int kHalf = T::kBn / 2;
  constexpr uint32_t kHalfBytes = kHalf * T::kRowBytes;
  const int second = T::kForm == Form::kGeglu ? n + args.n : n + kHalf;
  if constexpr (T::kCluster == 2) {
    load_3d_multicast(ring.b(stage) + rank * kHalfBytes, &args.b, ring.full(stage), 3, channel, tap,
                      rank == 0 ? n : second);
  } else {
    load_3d(ring.b(stage), &args.b, ring.full(stage), channel, tap, n);
    load_3d(ring.b(stage) + kHalfBytes, &args.b, ring.full(stage), channel, tap, second);
  }
}

// The weights of the first stages, while the kernel before this one still runs: nothing that it
// writes is read. Returns for how many stages.
template <class T>
__device__ __forceinline__ int load_weights_ahead(const KernelArgs& args, const Ring<T>& ring,
                                                  const Raster<T>& raster, int first, int rank) {
  if (!args.constant_weights || first >= raster.tiles()) return 0;
  const TilePosition position = raster.at(first, rank);
  const int stages = min(T::kStages, args.taps * args.chunks);
  int tap = 0;
  int chunk = 0;
  for (int stage = 0; stage < stages; ++stage) {
    barrier_expect(ring.full(stage), T::kStageBytes);
    load_weights(args, ring, stage, rank, position.n, chunk * T::kK, tap);
    if (++chunk == args.chunks) {
      chunk = 0;
      ++tap;
    }
  }
  return stages;
}

template <class T>
__device__ __forceinline__ void produce(const KernelArgs& args, const Ring<T>& ring,
                                        const Raster<T>& raster, int first, int step, int rank) {
  int ahead = load_weights_ahead(args, ring, raster, first, rank);
  wait_for_previous_kernel();
  RingPosition at;
  for (int tile = first; tile < raster.tiles(); tile += step) {
    const TilePosition position = raster.at(tile, rank);
    int image = 0;
    int w = 0;
    int h = 0;
    if constexpr (T::kConv) {
      image = position.m / args.conv.pixels;
      const int pixel = position.m - image * args.conv.pixels;
      h = pixel / args.conv.out_w;
      w = (pixel - h * args.conv.out_w) * args.conv.stride - args.conv.pad;
      h = h * args.conv.stride - args.conv.pad;
    }
    uint16_t tap_w = 0;
    uint16_t tap_h = 0;
    for (int tap = 0; tap < args.taps; ++tap) {
      for (int chunk = 0; chunk < args.chunks; ++chunk) {
        const bool weights_come = ahead > 0;
        if (weights_come) {
          --ahead;
        } else {
          barrier_wait(ring.empty(at.stage), at.phase ^ 1);
          barrier_expect(ring.full(at.stage), T::kStageBytes);
        }
        if constexpr (T::kConv) {
          load_im2col(ring.a(at.stage), &args.a, ring.full(at.stage), chunk * T::kK, w, h, image,
                      tap_w, tap_h);
        } else {
          load_2d(ring.a(at.stage), &args.a, ring.full(at.stage), chunk * T::kK, position.m);
        }
        if (!weights_come) {
          load_weights(args, ring, at.stage, rank, position.n, chunk * T::kK, tap);
        }
        at.next<T>();
      }
      if (++tap_w == args.conv.kernel_w) {
        tap_w = 0;
        ++tap_h;
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void release(const Ring<T>& ring, int stage, int lane) {
  if constexpr (T::kCluster == 1) {
    if (lane == 0) barrier_arrive(ring.empty(stage));
  } else {
    if (lane < T::kCluster) barrier_arrive_remote(ring.empty(stage), lane);
  }
}

// `steps` K steps of one tile. `row` = first row of this consumer inside the tile. `all_issued`
// runs when the tensor cores have all of it in their queue.
template <class T, class Acc, class F>
__device__ __forceinline__ void multiply(const Ring<T>& ring, RingPosition& at, int steps, int row,
                                         int lane, Acc (&acc)[T::kBlocks][T::kBn / 2],
                                         F all_issued) {
  using Mma = Wgmma<T::kIn, T::kBn>;
  constexpr uint64_t kBlockStep = 64 * T::kRowBytes / 16;
  int previous = -1;
  for (int step = 0; step < steps; ++step) {
    barrier_wait(ring.full(at.stage), at.phase);
    const uint64_t a = operand_descriptor<T::kRowBytes>(ring.a(at.stage) + row * T::kRowBytes);
    const uint64_t b = operand_descriptor<T::kRowBytes>(ring.b(at.stage));
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < T::kRowBytes / 32; ++k) {
#pragma unroll
      for (int block = 0; block < T::kBlocks; ++block) {
        Mma::mma(acc[block], a + block * kBlockStep + 2 * k, b + 2 * k,
                 k == 0 ? static_cast<int>(step != 0) : 1);
      }
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (previous >= 0) release(ring, previous, lane);
    previous = at.stage;
    at.next<T>();
  }
  all_issued();
  wgmma_wait<0>();
  release(ring, previous, lane);
}

// The same with partial sums of kPromote steps added up in fp32, for fp8's narrow accumulator.
template <class T>
__device__ __forceinline__ void multiply_promoted(const Ring<T>& ring, RingPosition& at, int steps,
                                                  int row, int lane,
                                                  float (&sum)[T::kBlocks][T::kBn / 2]) {
#pragma unroll
  for (int block = 0; block < T::kBlocks; ++block) {
#pragma unroll
    for (int i = 0; i < T::kBn / 2; ++i) sum[block][i] = 0.0f;
  }
  float part[T::kBlocks][T::kBn / 2];
  for (int done = 0; done < steps; done += T::kPromote) {
    multiply<T, float>(ring, at, min(T::kPromote, steps - done), row, lane, part, [] {});
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < T::kBn / 2; ++i) sum[block][i] += part[block][i];
    }
  }
}

// One consumer warpgroup.
template <class T>
struct Consumer {
  using Acc = typename Accumulator<T::kIn>::Type;
  const KernelArgs& args;
  const Ring<T>& ring;
  uint32_t staging;  // of this consumer
  float* columns;
  int index;
  int thread;
  uint32_t residual_phase = 0;

  // Named barriers: 1 + index: this warpgroup; 3 + index: its turn at the tensor cores.
  __device__ __forceinline__ void sync() const { named_sync(1 + index, 128); }

  __device__ __forceinline__ void begin_tile(TilePosition at) const {
    if (thread != 0) return;
    wait_stores_read();
    if (!args.epilogue.residual) return;
    barrier_expect(ring.residual(index), T::kStagingBytes);
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
      for (int panel = 0; panel < T::kPanels; ++panel) {
        load_2d(staging + (block * T::kPanels + panel) * 64 * T::kPanelBytes, &args.residual,
                ring.residual(index), at.n + panel * T::kPanelColumns, at.m + block * 64);
      }
    }
  }

  __device__ __forceinline__ void store(TilePosition at) const {
    if constexpr (T::kConv) {
      if (args.conv.interleave.y != nullptr) {
        store_interleaved<T>(args, staging, at, thread);
        return;
      }
    }
    if (thread != 0) return;
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
      for (int panel = 0; panel < T::kPanels; ++panel) {
        store_2d(&args.y, staging + (block * T::kPanels + panel) * 64 * T::kPanelBytes,
                 at.n + panel * T::kPanelColumns, at.m + block * 64);
      }
    }
    commit_stores();
  }

  // What the next norm wants to know of the staged tile, taken while it is stored.
  __device__ __forceinline__ void measure(TilePosition at) const {
    // Unknown to the compiler, or it keeps what follows from it in registers through the main loop.
    int of_warpgroup = thread;
    asm volatile("" : "+r"(of_warpgroup));
    if constexpr (kMeasuresGroups<T>) {
      if (args.epilogue.group_statistics != nullptr) {
        write_group_statistics<T>(args, staging, reinterpret_cast<float4*>(columns), at,
                                  of_warpgroup, [this] { sync(); });
      }
    }
  }

  __device__ __forceinline__ void run(const Raster<T>& raster, int first, int step, int rank) {
    const int steps = args.chunks * args.taps;
    const int lane = thread % 32;
    const int row = T::kPingPong ? 0 : index * T::kBlocks * 64;
    float inverse_y = 1.0f;
    if constexpr (T::kRequantize) inverse_y = 1.0f / *args.epilogue.y_scale;
    RingPosition at;
    if constexpr (T::kPingPong) {
      first += index * step;
      step *= 2;
      if (index == 1) {
        at.skip<T>(steps);
        named_arrive(3, 256);
      }
    }
    for (int tile = first; tile < raster.tiles(); tile += step) {
      TilePosition position = raster.at(tile, rank);
      position.m += row;
      begin_tile(position);
      TileColumns<T> tile_columns;
      TileRows<T> rows;
      tile_columns.read(args, position, thread);
      if constexpr (T::kRowsFirst) rows.read(args, position, thread);
      Acc acc[T::kBlocks][T::kBn / 2];
      if constexpr (T::kPingPong) {
        // Waits for the loads here, in the other consumer's time, to keep registers free.
        tile_columns.publish(columns, thread);
        named_sync(3 + index, 256);
      }
      if constexpr (T::kPromote > 0) {
        multiply_promoted<T>(ring, at, steps, row, lane, acc);
      } else {
        multiply<T, Acc>(ring, at, steps, row, lane, acc, [this] {
          if constexpr (T::kPingPong) named_arrive(4 - index, 256);
        });
      }
      if constexpr (T::kPingPong) {
        at.skip<T>(steps);
        if constexpr (!T::kRowsFirst) rows.read(args, position, thread);
      } else {
        tile_columns.publish(columns, thread);
      }
      sync();
      if (args.epilogue.residual) {
        barrier_wait(ring.residual(index), residual_phase);
        residual_phase ^= 1;
      }
      // Addresses of the staging area are made here, not kept through the main loop.
      int of_warpgroup = thread;
      asm volatile("" : "+r"(of_warpgroup));
      TileEpilogue<T, Acc>{
          args, position, rows, columns, staging, inverse_y, of_warpgroup % 32, of_warpgroup / 32}
          .write(acc);
      fence_async_shared();
      sync();
      store(position);
      measure(position);
    }
    if (thread == 0) wait_stores_read();
  }
};

template <class T>
__device__ __forceinline__ void prepare_barriers(const Ring<T>& ring) {
  for (int stage = 0; stage < T::kStages; ++stage) {
    barrier_init(ring.full(stage), 1);
    barrier_init(ring.empty(stage), (T::kPingPong ? 4 : 8) * T::kCluster);
  }
  barrier_init(ring.residual(0), 1);
  barrier_init(ring.residual(1), 1);
  fence_barrier_init();
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    gemm_kernel(const __grid_constant__ KernelArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = shared_address(shared);
  const Ring<T> ring{base, base + T::kBarriers};
  const int warpgroup = threadIdx.x / 128;
  if (threadIdx.x == 0) {
    prefetch_map(&args.a);
    prefetch_map(&args.b);
    prefetch_map(&args.y);
    prepare_barriers(ring);
  }
  const int rank = T::kCluster == 1 ? 0 : static_cast<int>(cluster_rank());
  if constexpr (T::kCluster == 1) {
    __syncthreads();
  } else {
    cluster_sync();
  }
  let_next_kernel_start();
  const Raster<T> raster(args);
  const int first = static_cast<int>(blockIdx.x) / T::kCluster;
  const int step = static_cast<int>(gridDim.x) / T::kCluster;
  if (warpgroup == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) produce(args, ring, raster, first, step, rank);
  } else {
    take_registers<232>();
    wait_for_previous_kernel();
    const int index = warpgroup - 1;
    constexpr int kColumns = T::kStages * T::kStageBytes + 2 * T::kStagingBytes;
    Consumer<T> consumer{args,
                         ring,
                         base + T::kStages * T::kStageBytes + index * T::kStagingBytes,
                         reinterpret_cast<float*>(shared + kColumns) + index * T::kColumnFloats,
                         index,
                         static_cast<int>(threadIdx.x) % 128};
    consumer.run(raster, first, step, rank);
  }
  // A block must not leave while the other may still arrive at its barriers or write its stages.
  if constexpr (T::kCluster == 2) cluster_sync();
}

}  // namespace halftone::backend::cuda::hopper
