// Attention with heads of 64 channels: host side.
#pragma once

#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "backend/cuda/hopper/mma/element.h"

namespace halftone::backend::cuda::hopper {

inline constexpr int kHeadDim = 64;

// Rows of q [batch, queries, heads * 64], k and v [batch, keys, ..], y like q; pitches in bytes,
// multiples of 16, as are the addresses. `scale` > 0, nothing is empty.
struct AttentionProblem {
  Element element = Element::kF16;  // of q and k; in 16 bits of v too
  Element out = Element::kF16;      // of y: of 16-bit q as well, or codes, which have a y_scale
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* y = nullptr;
  int64_t batch = 0, queries = 0, keys = 0, heads = 0;
  int64_t q_pitch = 0, k_pitch = 0, v_pitch = 0, y_pitch = 0;
  float scale = 1;
  bool causal = false;
  const float* y_scale = nullptr;
};

struct AttentionKernelArgs {
  CUtensorMap q, k, v, y;  // [batch, rows, channels]
  int keys = 0;
  float scale_log2 = 0;  // of scores, for powers of two
  const float* y_scale = nullptr;
};

// A kernel that may start while the one before it ends (launch.h).
struct AttentionLaunch {
  const void* kernel = nullptr;
  dim3 grid;
  int threads = 0;
  int shared_bytes = 0;

  void allow_shared() const;
  void operator()(const void* args, cudaStream_t stream) const;
};

// Divides what is not negative and below 2^31: the dividend times 2^(31 + shift) / divisor, rounded
// up, which fits 32 bits, over that power. A block's first loads wait for two quotients.
struct Divisor {
  uint32_t factor = 0;
  int shift = 0;

  Divisor() = default;
  explicit Divisor(int divisor);  // positive
};

// Any number of keys, in one pass; no mask. A block an SM takes items in turn: pairs of tiles of 64
// queries of a head, one a warpgroup. `full` items are such pairs, and when what is left of the
// last wave fits twice, two items stand for a pair, and the warpgroups share each one's tile and
// the keys.
struct OnePassArgs {
  AttentionKernelArgs base;
  int pairs = 0;  // a head
  int heads = 0;
  int full = 0;
  int items = 0;
  Divisor by_pairs, by_heads;
};
class Attention {
 public:
  Attention(const AttentionProblem& problem, int num_sms);
  void launch(cudaStream_t stream) const { launch_(&args_, stream); }

 private:
  OnePassArgs args_;
  AttentionLaunch launch_;
};

// Few keys, all of them in shared memory; causal or not.
inline constexpr int kFewKeys = 128;
inline constexpr int kTextKeys = 80;      // what CLIP's 77 tokens need
inline constexpr int kFewKeysGroups = 2;  // warpgroups of a block, each at a tile of its own
// How many of its tiles of 64 queries a block takes at a head, a multiple of kFewKeysGroups: so
// that the multiprocessor with the most blocks has the least to do. A block takes as long as its
// rounds and half of one before them, and fewer blocks than a multiprocessor holds, `resident`,
// take as long as those: a model that tells the measured times of bench/results/h200/batch16.txt
// apart.
[[nodiscard]] int few_keys_tiles_of_block(int64_t tiles, int64_t heads, int64_t num_sms,
                                          int64_t resident);
struct FewKeysArgs {
  AttentionKernelArgs base;
  int tiles = 0;            // of 64 queries a head
  int tiles_per_block = 0;  // even
  bool causal = false;
};
class FewKeysAttention {
 public:
  FewKeysAttention(const AttentionProblem& problem, int num_sms);
  void launch(cudaStream_t stream) const { launch_(&args_, stream); }

 private:
  FewKeysArgs args_;
  AttentionLaunch launch_;
};

// Codes of q, k (both i8 or both f8e4m3) and v (f8e4m3), weights rounded to f8e4m3, y in 16 bits or
// in codes, which have a y_scale.
// Scales as in graph/ops/attention.h, each positive; `by_part`: one for each head's part of a
// token.
struct CodesProblem {
  AttentionProblem base;
  const float* q_scale = nullptr;
  const float* k_scale = nullptr;
  const float* v_scale = nullptr;
  bool q_by_part = false, k_by_part = false;
  void* workspace = nullptr;  // codes_workspace_bytes()
};
[[nodiscard]] size_t codes_workspace_bytes(int64_t batch, int64_t keys, int64_t heads);

// Values as [batch, channels, padded keys] and scales of keys as [batch, heads, padded keys].
struct PackValuesArgs {
  const uint8_t* v = nullptr;
  uint8_t* packed = nullptr;
  const float* k_scale = nullptr;  // null: none are wanted
  float* packed_scale = nullptr;
  int64_t v_pitch = 0;
  int keys = 0, padded = 0, heads = 0;
  bool by_part = false;
};
struct CodesAttentionKernelArgs {
  AttentionKernelArgs base;  // v: packed
  CUtensorMap k_scale;       // [batch, heads, padded keys]
  const float* q_scale = nullptr;
  const float* k_scale_all = nullptr;  // one for all, where the kernel takes no scales of keys
  const float* v_scale = nullptr;
  int queries = 0, heads = 0;
  bool q_by_part = false;
};
class CodesAttention {
 public:
  explicit CodesAttention(const CodesProblem& problem);
  void launch(cudaStream_t stream) const;

 private:
  PackValuesArgs pack_args_;
  CodesAttentionKernelArgs args_;
  AttentionLaunch pack_, launch_;
};

// Rows of 64 channels a head, `box_rows` at a time, swizzled over `row bytes`.
[[nodiscard]] CUtensorMap head_rows_map(const AttentionProblem& problem, Element element,
                                        const void* data, int64_t rows, int64_t pitch,
                                        int box_rows);
inline constexpr int kOutRows = 64;  // of y that are stored at a time
// All but the map of q, for keys and values in 16 bits that come `key_rows` at a time.
[[nodiscard]] AttentionKernelArgs attention_args(const AttentionProblem& problem, int key_rows);

}  // namespace halftone::backend::cuda::hopper
