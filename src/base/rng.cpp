#include "base/rng.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "halftone/error.h"

#include "base/cuda_math.h"

// This file is compiled with -ffp-contract=off: every std::fma below is a fused operation of
// torch's compiled code, everything else rounds after each operation.

namespace halftone {
namespace {

// Natural logarithm of torch's vector path (Cephes logf). x is in (0, 1].
float cephes_log(float x) {
  constexpr std::array<float, 9> kPolynomial = {
      7.0376836292e-2F,  -1.1514610310e-1F, 1.1676998740e-1F,  -1.2420140846e-1F, 1.4249322787e-1F,
      -1.6668057665e-1F, 2.0000714765e-1F,  -2.4999993993e-1F, 3.3333331174e-1F};
  const uint32_t bits = std::bit_cast<uint32_t>(std::max(x, 0x1p-126F));
  float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 126);
  x = std::bit_cast<float>((bits & 0x007fffffU) | 0x3f000000U);  // [0.5, 1)
  if (x < 0.707106781186547524F) {
    exponent -= 1.0F;
    x = (x - 1.0F) + x;
  } else {
    x = x - 1.0F;
  }
  const float square = x * x;
  float y = kPolynomial[0];
  for (size_t i = 1; i < kPolynomial.size(); ++i) y = std::fma(y, x, kPolynomial[i]);
  y = y * x;
  y = std::fma(y, square, exponent * -2.12194440e-4F);
  y = std::fma(-square, 0.5F, y);
  return std::fma(exponent, 0.693359375F, x + y);
}

struct SinCos {
  float sin;
  float cos;
};

// Sine and cosine of torch's vector path (Cephes sincosf). x is in [0, 2 pi).
SinCos cephes_sincos(float x) {
  const int32_t octant =
      (static_cast<int32_t>(x * 1.27323954473516F) + 1) & ~1;  // x * 4 / pi, even
  const auto y = static_cast<float>(octant);
  for (float part : {-0.78515625F, -2.4187564849853515625e-4F, -3.77489497744594108e-8F}) {
    x = std::fma(y, part, x);
  }
  const float z = x * x;
  float c = std::fma(2.443315711809948e-5F, z, -1.388731625493765e-3F);
  c = std::fma(c, z, 4.166664568298827e-2F) * z;
  c = std::fma(c, z, -(z * 0.5F)) + 1.0F;
  float s = std::fma(-1.9515295891e-4F, z, 8.3321608736e-3F);
  s = std::fma(s, z, -1.6666654611e-1F) * z;
  s = std::fma(s, x, x);
  const bool is_swapped = (octant & 2) != 0;
  const float sin = is_swapped ? c : s;
  const float cos = is_swapped ? s : c;
  return {(octant & 4) != 0 ? -sin : sin, ((octant - 2) & 4) != 0 ? cos : -cos};
}

// Turns 16 uniforms into 16 normals; elements j and j + 8 are a Box-Muller pair.
void normal_block(float* data) {
  constexpr auto kTwoPi = static_cast<float>(2.0 * std::numbers::pi);
  for (int j = 0; j < 8; ++j) {
    const float radius = std::sqrt(-2.0F * cephes_log(1.0F - data[j]));
    const SinCos angle = cephes_sincos(kTwoPi * data[j + 8]);
    data[j] = radius * angle.cos;
    data[j + 8] = radius * angle.sin;
  }
}

float uniform_float(std::mt19937& engine) {
  return static_cast<float>(engine() & 0xffffffU) * 0x1p-24F;
}

double uniform_double(std::mt19937& engine) {
  const uint64_t high = engine();
  const uint64_t bits = (high << 32) | engine();
  return static_cast<double>(bits & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
}

constexpr size_t kPiece = 64;  // threads of a CUDA launch whose numbers are made at a time

// Word w of Philox4x32-10 for counters (block, subsequence + i) and key seed, i < kPiece.
struct PhiloxPiece {
  uint32_t word[4][kPiece];
};

void philox(uint64_t seed, uint64_t block, uint64_t subsequence, PhiloxPiece& piece) {
  uint32_t(&c)[4][kPiece] = piece.word;
  for (size_t i = 0; i < kPiece; ++i) {
    c[0][i] = static_cast<uint32_t>(block);
    c[1][i] = static_cast<uint32_t>(block >> 32);
    c[2][i] = static_cast<uint32_t>(subsequence + i);
    c[3][i] = static_cast<uint32_t>((subsequence + i) >> 32);
  }
  auto k0 = static_cast<uint32_t>(seed);
  auto k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (size_t i = 0; i < kPiece; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53U} * c[0][i];
      const uint64_t p1 = uint64_t{0xCD9E8D57U} * c[2][i];
      c[0][i] = static_cast<uint32_t>(p1 >> 32) ^ c[1][i] ^ k0;
      c[1][i] = static_cast<uint32_t>(p1);
      c[2][i] = static_cast<uint32_t>(p0 >> 32) ^ c[3][i] ^ k1;
      c[3][i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
}

}  // namespace

void NoiseGenerator::TorchCpu::randn(std::span<float> out) {
  if (out.size() < 16) {
    for (float& value : out) {
      if (spare.has_value()) {
        value = static_cast<float>(*spare);
        spare.reset();
        continue;
      }
      const double u1 = uniform_double(engine);
      const double u2 = uniform_double(engine);
      const double radius = std::sqrt(-2.0 * std::log1p(-u2));
      const double theta = 2.0 * std::numbers::pi * u1;
      spare = radius * std::sin(theta);
      value = static_cast<float>(radius * std::cos(theta));
    }
    return;
  }
  for (float& value : out) value = uniform_float(engine);
  for (size_t i = 0; i + 16 <= out.size(); i += 16) normal_block(out.data() + i);
  if (out.size() % 16 != 0) {  // torch draws the last 16 again
    const std::span<float> tail = out.last(16);
    for (float& value : tail) value = uniform_float(engine);
    normal_block(tail.data());
  }
}

// torch launches blocks of 256 threads, at most as many as the device holds at once. Thread i owns
// subsequence i; each trip of its loop makes four normals and writes them `threads` elements apart.
void NoiseGenerator::TorchCuda::randn(std::span<float> out) {
  if (out.empty()) return;
  constexpr uint64_t kBlock = 256;
  const uint64_t resident = uint64_t{geometry.multiprocessors} *
                            (uint64_t{geometry.threads_per_multiprocessor} / kBlock) * kBlock;
  const uint64_t threads = std::min(resident, (out.size() + kBlock - 1) / kBlock * kBlock);
  const uint64_t trips = (out.size() - 1) / (threads * 4) + 1;
  PhiloxPiece words;
  float normals[4][kPiece];
  for (uint64_t trip = 0; trip < trips; ++trip) {
    for (uint64_t thread = 0; thread < threads; thread += kPiece) {
      if (trip * threads * 4 + thread >= out.size()) break;
      philox(seed, offset + trip, thread, words);
      for (const size_t pair : {size_t{0}, size_t{2}}) {
        curand_normals(words.word[pair], words.word[pair + 1], normals[pair], normals[pair + 1],
                       kPiece);
      }
      for (uint64_t i = 0; i < 4; ++i) {
        const uint64_t first = (trip * 4 + i) * threads + thread;
        if (first >= out.size()) break;
        std::copy_n(normals[i], std::min<uint64_t>(kPiece, out.size() - first), &out[first]);
      }
    }
  }
  offset += trips;
}

NoiseGenerator NoiseGenerator::torch_cpu(uint64_t seed) {
  return NoiseGenerator(TorchCpu{std::mt19937(static_cast<uint32_t>(seed)), std::nullopt});
}

NoiseGenerator NoiseGenerator::torch_cuda(uint64_t seed, CudaGeometry geometry) {
  if (geometry.multiprocessors == 0 || geometry.threads_per_multiprocessor < 256) {
    throw Error(Errc::kInvalidArgument,
                "CUDA noise: the device geometry needs at least 1 multiprocessor of 256 threads");
  }
  return NoiseGenerator(TorchCuda{seed, 0, geometry});
}

void NoiseGenerator::randn(std::span<float> out) {
  std::visit([out](auto& state) { state.randn(out); }, state_);
}

}  // namespace halftone
