#include "backend/cuda/hopper/attention.h"

#include <algorithm>
#include <array>
#include <limits>

#include "backend/cuda/error.h"
#include "backend/cuda/hopper/gemm_args.h"
#include "backend/cuda/hopper/tensor_map.h"
#include "backend/cuda/launch.h"

namespace halftone::backend::cuda::hopper {

void AttentionLaunch::allow_shared() const {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
        "raising a kernel's shared memory");
}

void AttentionLaunch::operator()(const void* args, cudaStream_t stream) const {
  cudaLaunchAttribute overlap = overlap_attribute();
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = overlaps_launches() ? 1 : 0;
  void* arguments[] = {const_cast<void*>(args)};
  check(cudaLaunchKernelExC(&config, kernel, arguments), "launching attention");
}

int few_keys_tiles_of_block(int64_t tiles, int64_t heads, int64_t num_sms, int64_t resident) {
  const auto divide_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t rounds = divide_up(tiles, kFewKeysGroups);
  int64_t best = rounds;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t of_block = rounds; of_block > 0; --of_block) {
    const int64_t blocks = divide_up(rounds, of_block) * heads;
    const int64_t half_rounds = std::max(divide_up(blocks, num_sms), resident) * (2 * of_block + 1);
    if (half_rounds < least) {
      least = half_rounds;
      best = of_block;
    }
  }
  return static_cast<int>(best * kFewKeysGroups);
}

CUtensorMap head_rows_map(const AttentionProblem& p, Element element, const void* data,
                          int64_t rows, int64_t pitch, int box_rows) {
  const std::array<uint64_t, 3> sizes = {static_cast<uint64_t>(p.heads * kHeadDim),
                                         static_cast<uint64_t>(rows),
                                         static_cast<uint64_t>(p.batch)};
  const std::array<uint64_t, 2> pitches = {static_cast<uint64_t>(pitch),
                                           static_cast<uint64_t>(pitch * rows)};
  const std::array<uint32_t, 3> box = {kHeadDim, static_cast<uint32_t>(box_rows), 1};
  return tiled_map(element, data, sizes, pitches, box, kHeadDim * bytes_of(element));
}

AttentionKernelArgs attention_args(const AttentionProblem& p, int key_rows) {
  AttentionKernelArgs args{};
  args.k = head_rows_map(p, p.element, p.k, p.keys, p.k_pitch, key_rows);
  args.v = head_rows_map(p, p.element, p.v, p.keys, p.v_pitch, key_rows);
  args.y = head_rows_map(p, p.out, p.y, p.queries, p.y_pitch, kOutRows);
  args.keys = static_cast<int>(p.keys);
  args.scale_log2 = p.scale * kLog2E;
  args.y_scale = p.y_scale;
  return args;
}

}  // namespace halftone::backend::cuda::hopper
