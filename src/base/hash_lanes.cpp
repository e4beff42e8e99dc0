// sha256_lanes: 16 SHA-256 states in one vector of 32-bit words each.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/hash.h"

namespace halftone {
namespace {

constexpr size_t kLanes = 16;
constexpr size_t kBlockBytes = 16 * kLanes * sizeof(uint32_t);  // 16 words for every lane

// Compilers split this into narrower vectors where the machine has none of 64 bytes.
using Words = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));

struct LaneStates {
  Words word[8];
};

// The body is inlined into one function per instruction set; vectors travel by reference only, as
// their calling convention depends on it.
[[gnu::always_inline]] inline void rotate(Words& out, const Words& x, int n) {
  out = (x >> n) | (x << (32 - n));
}

[[gnu::always_inline]] inline void schedule(Words (&w)[16], size_t i) {
  const Words& w15 = w[(i + 1) % 16];
  const Words& w2 = w[(i + 14) % 16];
  Words a;
  Words b;
  rotate(a, w15, 7);
  rotate(b, w15, 18);
  w[i % 16] += (a ^ b ^ (w15 >> 3)) + w[(i + 9) % 16];
  rotate(a, w2, 17);
  rotate(b, w2, 19);
  w[i % 16] += a ^ b ^ (w2 >> 10);
}

[[gnu::always_inline]] inline void compress_body(LaneStates& states, const std::byte* data,
                                                 size_t num_blocks) {
  for (; num_blocks > 0; --num_blocks, data += kBlockBytes) {
    Words w[16];
    std::memcpy(w, data, sizeof w);
    Words s[8];
    std::memcpy(s, states.word, sizeof s);
    for (size_t i = 0; i < 64; ++i) {
      if (i >= 16) schedule(w, i);
      // The eight working variables rotate through s; a = s[-i mod 8].
      const auto at = [&](size_t k) -> Words& { return s[(k + 64 - i) % 8]; };
      Words r1;
      Words r2;
      Words r3;
      rotate(r1, at(4), 6);
      rotate(r2, at(4), 11);
      rotate(r3, at(4), 25);
      const Words t1 = at(7) + (r1 ^ r2 ^ r3) + (at(6) ^ (at(4) & (at(5) ^ at(6)))) +
                       kSha256Round[i] + w[i % 16];
      rotate(r1, at(0), 2);
      rotate(r2, at(0), 13);
      rotate(r3, at(0), 22);
      at(3) += t1;
      at(7) = t1 + (r1 ^ r2 ^ r3) + ((at(0) & at(1)) | (at(2) & (at(0) | at(1))));
    }
    for (size_t i = 0; i < 8; ++i) states.word[i] += s[i];
  }
}

__attribute__((target("avx512f"))) void compress_avx512(LaneStates& states, const std::byte* data,
                                                        size_t num_blocks) {
  compress_body(states, data, num_blocks);
}
__attribute__((target("avx2"))) void compress_avx2(LaneStates& states, const std::byte* data,
                                                   size_t num_blocks) {
  compress_body(states, data, num_blocks);
}
void compress_generic(LaneStates& states, const std::byte* data, size_t num_blocks) {
  compress_body(states, data, num_blocks);
}

using Compress = void (*)(LaneStates&, const std::byte*, size_t);

Compress choose() {
  if (__builtin_cpu_supports("avx512f") != 0) return compress_avx512;
  if (__builtin_cpu_supports("avx2") != 0) return compress_avx2;
  return compress_generic;
}

}  // namespace

Sha256Digest sha256_lanes(std::span<const std::byte> data) {
  static const Compress kCompress = choose();
  LaneStates states;
  for (size_t i = 0; i < 8; ++i) {
    for (size_t lane = 0; lane < kLanes; ++lane) states.word[i][lane] = kSha256Start[i];
  }
  const size_t num_whole = data.size() / kBlockBytes;
  kCompress(states, data.data(), num_whole);
  if (const size_t rest = data.size() % kBlockBytes; rest > 0) {
    std::array<std::byte, kBlockBytes> last{};
    std::copy_n(data.data() + num_whole * kBlockBytes, rest, last.data());
    kCompress(states, last.data(), 1);
  }
  Sha256 hash;
  const uint64_t size = data.size();
  hash.update(&size, sizeof size);
  hash.update(states.word, sizeof states.word);
  return hash.finish();
}

}  // namespace halftone
