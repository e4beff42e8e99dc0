// The kernel: y = epilogue(a * b^T), linear or implicit-GEMM convolution, sm_90a. One producer warp
// feeds a ring of shared-memory stages through the copy engine, two consumer warpgroups run wgmma
// and the epilogue. Persistent: each cluster takes every n-th tile. Where a tile's terms are shared
// out (T::kSplit), the two blocks of a cluster exchange sums: each ends half of the tile's rows.
#pragma once

#include "backend/cuda/hopper/epilogue/epilogue.cuh"
#include "backend/cuda/hopper/epilogue/group_stats.cuh"
#include "backend/cuda/hopper/epilogue/interleave.cuh"
#include "backend/cuda/hopper/gemm_walk.cuh"
#include "backend/cuda/hopper/mma/wgmma.cuh"
#include "backend/cuda/hopper/ptx/tma.cuh"

namespace halftone::backend::cuda::hopper {

// Of args the map `b` and, with a gate, the columns `n`.
template <class T, class Args>
__device__ __forceinline__ void load_weights(const Args& args, const Ring<T>& ring, int stage,
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
                                                  const Raster<T>& raster, int first,
                                                  BlockPlace<T> block) {
  if (!args.constant_weights || first >= raster.tiles()) return 0;
  const TilePosition position = raster.at(first, block.rank);
  const Steps<T> steps(args, block.part);
  const int stages = min(T::kStages, steps.count);
  Chunk of(args, steps.first);
  for (int stage = 0; stage < stages; ++stage) {
    barrier_expect(ring.full(stage), T::kStageBytes);
    load_weights(args, ring, stage, block.rank, position.n, of.chunk * T::kK, of.tap);
    of.next(args);
  }
  return stages;
}

template <class T>
__device__ __forceinline__ void produce(const KernelArgs& args, const Ring<T>& ring,
                                        const Raster<T>& raster, int first, int step,
                                        BlockPlace<T> block) {
  int ahead = load_weights_ahead(args, ring, raster, first, block);
  wait_for_previous_kernel();
  const Steps<T> steps(args, block.part);
  RingPosition at;
  for (int tile = first; tile < raster.tiles(); tile += step) {
    const TilePosition position = raster.at(tile, block.rank);
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
    Chunk of(args, steps.first);
    auto tap_h = static_cast<uint16_t>(of.tap / args.conv.kernel_w);
    auto tap_w = static_cast<uint16_t>(of.tap - tap_h * args.conv.kernel_w);
    for (int i = 0; i < steps.count; ++i) {
      const bool weights_come = ahead > 0;
      if (weights_come) {
        --ahead;
      } else {
        barrier_wait(ring.empty(at.stage), at.phase ^ 1);
        barrier_expect(ring.full(at.stage), T::kStageBytes);
      }
      if constexpr (T::kConv) {
        load_im2col(ring.a(at.stage), &args.a, ring.full(at.stage), of.chunk * T::kK, w, h, image,
                    tap_w, tap_h);
      } else {
        load_2d(ring.a(at.stage), &args.a, ring.full(at.stage), of.chunk * T::kK, position.m);
      }
      if (!weights_come) {
        load_weights(args, ring, at.stage, block.rank, position.n, of.chunk * T::kK, of.tap);
      }
      at.next<T>();
      if (of.next(args) && ++tap_w == args.conv.kernel_w) {
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

// Puts the products of the first kBytes of a stage's rows into the tensor cores' queue, as a group
// of its own: ptxas cuts groups up that have a branch inside (C7519).
template <class T, int kBytes, int kSums, class Acc>
__device__ __forceinline__ void issue(uint64_t a, uint64_t b, bool begin,
                                      Acc (&acc)[T::kBlocks][kSums]) {
  using Mma = Wgmma<T::kIn, kSums * 2>;
  constexpr uint64_t kRowStep = T::kSharesColumns ? 0 : 64 * T::kRowBytes / 16;
  constexpr uint64_t kColumnStep = T::kSharesColumns ? kSums * 2 * T::kRowBytes / 16 : 0;
  wgmma_begin();
#pragma unroll
  for (int k = 0; k < kBytes / 32; ++k) {
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
      Mma::mma(acc[block], a + block * kRowStep + 2 * k, b + block * kColumnStep + 2 * k,
               k == 0 ? static_cast<int>(!begin) : 1);
    }
  }
  wgmma_commit();
}

// `steps` K steps of one tile. `row` = first row of this consumer inside the tile. The blocks of
// sums are of 64 rows each, or share out the columns (T::kSharesColumns). `all_issued` runs when
// the tensor cores have all of it in their queue.
template <class T, class Acc, int kSums, bool kHalves, class F>
__device__ __forceinline__ void multiply(const Ring<T>& ring, RingPosition& at, int steps,
                                         HalfSteps<kHalves>& halves, int row, int lane,
                                         Acc (&acc)[T::kBlocks][kSums], F all_issued) {
  int previous = -1;
  for (int step = 0; step < steps; ++step) {
    barrier_wait(ring.full(at.stage), at.phase);
    const uint64_t a = operand_descriptor<T::kRowBytes>(ring.a(at.stage) + row * T::kRowBytes);
    const uint64_t b = operand_descriptor<T::kRowBytes>(ring.b(at.stage));
    if (halves.next()) {
      issue<T, T::kRowBytes / 2>(a, b, step == 0, acc);
    } else {
      issue<T, T::kRowBytes>(a, b, step == 0, acc);
    }
    wgmma_wait<1>();
    if (previous >= 0) release(ring, previous, lane);
    previous = at.stage;
    at.next<T>();
  }
  all_issued();
  wgmma_wait<0>();
  release(ring, previous, lane);
}

// The same with partial sums of kPromote steps added up in fp32, for fp8's narrow accumulator. Of
// consumers that share a tile the second begins with half as many, so that one multiplies while the
// other adds.
template <class T>
__device__ __forceinline__ void multiply_promoted(const Ring<T>& ring, RingPosition& at, int steps,
                                                  HalfSteps<T::kHalfSteps>& halves, int row,
                                                  int lane, float (&sum)[T::kBlocks][T::kBn / 2]) {
#pragma unroll
  for (int block = 0; block < T::kBlocks; ++block) {
#pragma unroll
    for (int i = 0; i < T::kBn / 2; ++i) sum[block][i] = 0.0f;
  }
  float part[T::kBlocks][T::kBn / 2];
  int size = row == 0 ? T::kPromote : T::kPromote / 2;
  for (int done = 0; done < steps; done += size, size = T::kPromote) {
    multiply<T, float>(ring, at, min(size, steps - done), halves, row, lane, part, [] {});
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < T::kBn / 2; ++i) sum[block][i] += part[block][i];
    }
  }
}

// Makes what the tensor cores' registers hold an ordinary value. Without it, and without sums that
// begin as zero, ptxas waits for each product of a kernel that exchanges sums (C7514, C7517).
__device__ __forceinline__ void hold(float& v) { asm volatile("" : "+f"(v)); }
__device__ __forceinline__ void hold(int& v) { asm volatile("" : "+r"(v)); }

__device__ __forceinline__ uint32_t to_bits(float v) { return __float_as_uint(v); }
__device__ __forceinline__ uint32_t to_bits(int v) { return static_cast<uint32_t>(v); }
template <class Acc>
__device__ __forceinline__ Acc from_bits(uint32_t bits);
template <>
__device__ __forceinline__ float from_bits<float>(uint32_t bits) {
  return __uint_as_float(bits);
}
template <>
__device__ __forceinline__ int from_bits<int>(uint32_t bits) {
  return static_cast<int>(bits);
}

// One consumer warpgroup.
template <class T>
struct Consumer {
  using Acc = typename Accumulator<T::kIn>::Type;
  const KernelArgs& args;
  const Ring<T>& ring;
  uint32_t staging;  // of this consumer
  uint32_t partial;
  float* columns;
  BlockPlace<T> block;
  int index;
  int thread;
  uint32_t residual_phase = 0;
  uint32_t partial_phase = 0;

  // Named barriers: 1 + index: this warpgroup; 3 + index: its turn at the tensor cores.
  __device__ __forceinline__ void sync() const { named_sync(1 + index, 128); }

  __device__ __forceinline__ void begin_tile(TilePosition at) const {
    if (thread != 0) return;
    if constexpr (T::kSplit > 1) barrier_expect(ring.partial_full(index), T::kPartialBytes);
    if (!args.epilogue.residual) return;
    wait_stores_read();
    barrier_expect(ring.residual(index), T::kStagingBytes / T::kSplit);
#pragma unroll
    for (int i = 0; i < T::kBlocks; ++i) {
      for (int panel = 0; panel < T::kPanels; ++panel) {
        load_2d(staged_panel(i, panel), &args.residual, ring.residual(index),
                at.n + panel * T::kPanelColumns, at.m + i * 64 + first_row());
      }
    }
  }

  // Of a 64-row block: the first row that this block of the cluster ends.
  [[nodiscard]] __device__ __forceinline__ int first_row() const {
    return T::kSplit > 1 ? block.part * T::kEndedRows : 0;
  }
  // Where those rows of a panel lie.
  [[nodiscard]] __device__ __forceinline__ uint32_t staged_panel(int i, int panel) const {
    return staging + ((i * T::kPanels + panel) * 64 + first_row()) * T::kPanelBytes;
  }

  // Behind a barrier that follows the writes of panels first..end.
  __device__ __forceinline__ void store(TilePosition at, int first, int end) const {
    if constexpr (T::kConv) {
      if (args.conv.interleave.y != nullptr) {
        store_interleaved<T>(args, staging, at, first_row(), thread);
        return;
      }
    }
    if (thread != 0) return;
#pragma unroll
    for (int i = 0; i < T::kBlocks; ++i) {
      for (int panel = first; panel < end; ++panel) {
        store_2d(&args.y, staged_panel(i, panel), at.n + panel * T::kPanelColumns,
                 at.m + i * 64 + first_row());
      }
    }
    commit_stores();
  }

  __device__ __forceinline__ void store_written(TilePosition at, int first, int end) const {
    fence_async_shared();
    sync();
    store(at, first, end);
  }

  // What the next norm or quantization wants to know of the staged tile, taken while it is stored.
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
    if constexpr (T::kAmax) write_amax<T>(args, ring.amax(index), at.m, at.n, of_warpgroup);
  }

  // Warps of rows that the other block ends send their sums, the others add what comes: thread by
  // thread, in the order in which the threads hold them. The consumers share one place for it.
  [[nodiscard]] __device__ __forceinline__ bool ends_rows() const {
    return T::kSplit == 1 || thread / 64 == block.part;
  }
  __device__ __forceinline__ void exchange(Acc (&acc)[T::kBlocks][T::kBn / 2]) {
#pragma unroll
    for (int i = 0; i < T::kBn / 2; ++i) hold(acc[0][i]);
    const uint32_t mine = partial + thread % 64 * 16;
    constexpr uint32_t kStep = 64 * 16;
    if (ends_rows()) {
      barrier_wait_cluster(ring.partial_full(index), partial_phase);
#pragma unroll
      for (int i = 0; i < T::kBn / 2; i += 4) {
        uint32_t words[4];
        load_shared(mine + i / 4 * kStep, words);
#pragma unroll
        for (int k = 0; k < 4; ++k) acc[0][i + k] += from_bits<Acc>(words[k]);
      }
    } else {
      // The tile before was the other consumer's: its sums have been read.
      barrier_wait(ring.partial_empty(1 - index), partial_phase ^ static_cast<uint32_t>(1 - index));
      const int other = 1 - block.part;
      const uint32_t to = address_in_block(mine, other);
      const uint32_t barrier = address_in_block(ring.partial_full(index), other);
#pragma unroll
      for (int i = 0; i < T::kBn / 2; i += 4) {
        const uint32_t words[4] = {to_bits(acc[0][i]), to_bits(acc[0][i + 1]),
                                   to_bits(acc[0][i + 2]), to_bits(acc[0][i + 3])};
        store_remote(to + i / 4 * kStep, barrier, words);
      }
    }
    partial_phase ^= 1;
  }

  // What the first tile's columns need is fetched into the second level cache while the kernel
  // before this one still runs; a fetch reads nothing too early.
  __device__ __forceinline__ void fetch_columns(const Raster<T>& raster, int first,
                                                int step) const {
    const int tile = first + (T::kPingPong ? index * step : 0);
    if (tile >= raster.tiles()) return;
    prefetch_columns<T>(args, raster.at(tile, block.rank), thread);
  }

  __device__ __forceinline__ void run(const Raster<T>& raster, int first, int step) {
    const Steps<T> all(args, block.part);
    const int steps = all.count;
    const int lane = thread % 32;
    const int row = T::kPingPong ? 0 : index * T::kBlocks * 64;
    float inverse_y = 1.0f;
    if constexpr (T::kRequantize && T::kForm != Form::kGeglu) {
      inverse_y = 1.0f / *args.epilogue.y_scale;
    }
    RingPosition at;
    if constexpr (T::kPingPong) {
      first += index * step;
      step *= 2;
      if (index == 1) {
        at.skip<T>(steps);
        named_arrive(3, 256);
      }
    }
    // The next tile and what it needs besides sums. In 8-bit linears it is read in the epilogue
    // of the one before; norms of rows are more work than fits there, convolutions have long loops.
    constexpr bool kReadsAhead = T::kScaled && !T::kConv;
    TilePosition next{};
    TileColumns<T> next_columns;
    TileRows<T> next_rows;
    const auto find = [&](int tile) {
      if (tile >= raster.tiles()) return;
      next = raster.at(tile, block.rank);
      next.m += row;
    };
    const auto read = [&](int tile) {
      if (tile >= raster.tiles()) return;
      next_columns.read(args, next, thread);
      next_rows.read(args, next, thread);
    };
    if constexpr (kReadsAhead) {
      find(first);
      read(first);
    }
    for (int tile = first; tile < raster.tiles(); tile += step) {
      if constexpr (!kReadsAhead) find(tile);
      const TilePosition position = next;
      begin_tile(position);
      if constexpr (!kReadsAhead) read(tile);
      const TileRows<T> rows = next_rows;
      if constexpr (kReadsAhead || T::kPingPong) {
        next_columns.publish(args.epilogue, columns, thread);
      }
      if constexpr (kReadsAhead) find(tile + step);
      Acc acc[T::kBlocks][T::kBn / 2];
      if constexpr (T::kSplit > 1) {
#pragma unroll
        for (int i = 0; i < T::kBn / 2; ++i) acc[0][i] = 0;
      }
      HalfSteps<T::kHalfSteps> halves(args, all.first);
      if constexpr (T::kPingPong) named_sync(3 + index, 256);
      if constexpr (T::kPromote > 0) {
        multiply_promoted<T>(ring, at, steps, halves, row, lane, acc);
        if constexpr (T::kPingPong) named_arrive(4 - index, 256);
      } else {
        multiply<T, Acc>(ring, at, steps, halves, row, lane, acc, [this] {
          if constexpr (T::kPingPong) named_arrive(4 - index, 256);
        });
      }
      if constexpr (T::kPingPong) at.skip<T>(steps);
      if constexpr (!kReadsAhead && !T::kPingPong) {
        next_columns.publish(args.epilogue, columns, thread);
      }
      if constexpr (T::kSplit > 1) exchange(acc);
      if (thread == 0 && !args.epilogue.residual) wait_stores_read();
      sync();
      if constexpr (T::kSplit > 1) {
        if (thread == 0) barrier_arrive_remote(ring.partial_empty(index), 1 - block.part);
      }
      if (args.epilogue.residual) {
        barrier_wait(ring.residual(index), residual_phase);
        residual_phase ^= 1;
      }
      // Addresses of the staging area are made here, not kept through the main loop.
      int of_warpgroup = thread;
      asm volatile("" : "+r"(of_warpgroup));
      if (ends_rows()) {
        const auto end = [&](auto activation) {
          TileEpilogue<T, Acc, activation()>{args,      position,          rows,
                                             columns,   staging,           ring.amax(index),
                                             inverse_y, of_warpgroup % 32, of_warpgroup / 32}
              .write(acc, [&] {
                if constexpr (kReadsAhead) read(tile + step);
                if constexpr (T::kStoresHalves) store_written(position, 0, T::kFirstPanels);
              });
        };
        if constexpr (T::kScaled && T::kForm == Form::kActivated) {
          with_activation(args.epilogue.activation, end);
        } else {
          end(AsActivation<Activation::kNone>{});
        }
      } else if constexpr (kReadsAhead) {
        read(tile + step);
      }
      store_written(position, T::kStoresHalves ? T::kFirstPanels : 0, T::kPanels);
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
  if constexpr (T::kSplit > 1) {
    for (int consumer = 0; consumer < 2; ++consumer) {
      barrier_init(ring.partial_full(consumer), 1);
      barrier_init(ring.partial_empty(consumer), 1);
    }
  }
  fence_barrier_init();
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    gemm_kernel(const __grid_constant__ KernelArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = shared_address(shared);
  const Ring<T> ring{base, base + T::kBarriers};
  // The same in a warp, which the compiler sees in this form only: operands' addresses then stay in
  // uniform registers, where the tensor cores want them.
  const int warpgroup = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 128, 0);
  if (threadIdx.x == 0) {
    prefetch_map(&args.a);
    prefetch_map(&args.b);
    prefetch_map(&args.y);
    prepare_barriers(ring);
  }
  const BlockPlace<T> block(T::kClusterBlocks == 1 ? 0 : static_cast<int>(cluster_rank()));
  if constexpr (T::kClusterBlocks == 1) {
    __syncthreads();
  } else {
    cluster_sync();
  }
  let_next_kernel_start();
  const Raster<T> raster(args);
  const int first = static_cast<int>(blockIdx.x) / T::kClusterBlocks;
  const int step = static_cast<int>(gridDim.x) / T::kClusterBlocks;
  if (warpgroup == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) produce(args, ring, raster, first, step, block);
  } else {
    take_registers<232>();
    const int index = warpgroup - 1;
    Consumer<T> consumer{args,
                         ring,
                         base + T::kStages * T::kStageBytes + index * T::kStagingBytes,
                         base + T::kPartial,
                         reinterpret_cast<float*>(shared + T::kColumns) + index * T::kColumnFloats,
                         block,
                         index,
                         static_cast<int>(threadIdx.x) % 128};
    consumer.fetch_columns(raster, first, step);
    wait_for_previous_kernel();
    consumer.run(raster, first, step);
  }
  // A block must not leave while the other may still arrive at its barriers or write its stages.
  if constexpr (T::kClusterBlocks > 1) cluster_sync();
}

}  // namespace halftone::backend::cuda::hopper
