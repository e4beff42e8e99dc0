#include "base/cuda_math.h"

#include <array>
#include <bit>
#include <cmath>

// This file is compiled with -ffp-contract=off, as rng.cpp. Loops are written without branches and
// in double where integers would have 64 bits (every value is a whole number below 2^53), so that
// compilers make vectors of them.

namespace halftone {
namespace {

constexpr int kTurnBits = 25;     // what the unit keeps of the argument's fraction
constexpr int kSegmentBits = 17;  // the lower bits of a quadrant's 23; the upper 6 choose a segment
constexpr int kUnitBits = 37;     // the sum counts in 2^-37
constexpr int kSquareBits = 19;   // columns of the square below this one do not exist

// sin = c0 + c1 x + c2 square(x) over one 64th of a quadrant, x from 0 to 2^17 - 1.
struct Segment {
  double c0, c1, c2;
};
// Read off the device: the only integers with which all 2^23 values of a quadrant come out exactly.
constexpr std::array<Segment, 64> kSegments = {{{0, 25737, -14},
                                                {3372904448, 25730, -48},
                                                {6743801856, 25706, -76},
                                                {10110623744, 25668, -110},
                                                {13471358976, 25613, -137},
                                                {16823984128, 25544, -171},
                                                {20166463488, 25459, -201},
                                                {23496810496, 25358, -229},
                                                {26812993536, 25243, -262},
                                                {30113038336, 25112, -292},
                                                {33394933760, 24966, -322},
                                                {36656717824, 24805, -352},
                                                {39896412160, 24629, -381},
                                                {43112091648, 24438, -410},
                                                {46301777920, 24233, -441},
                                                {49463582720, 24013, -470},
                                                {52595609600, 23778, -497},
                                                {55695945728, 23529, -525},
                                                {58762719232, 23266, -553},
                                                {61794107392, 22989, -581},
                                                {64788275200, 22698, -608},
                                                {67743399936, 22394, -637},
                                                {70657728512, 22076, -664},
                                                {73529516032, 21744, -688},
                                                {76356976640, 21400, -715},
                                                {79138471936, 21042, -738},
                                                {81872281600, 20672, -763},
                                                {84556783616, 20290, -790},
                                                {87190335488, 19895, -812},
                                                {89771380736, 19489, -839},
                                                {92298346496, 19070, -859},
                                                {94769717248, 18640, -881},
                                                {97184010240, 18199, -904},
                                                {99539755008, 17747, -926},
                                                {101835546624, 17284, -946},
                                                {104069984256, 16811, -967},
                                                {106241736704, 16328, -988},
                                                {108349513728, 15834, -1004},
                                                {110391992320, 15332, -1025},
                                                {112367996928, 14820, -1043},
                                                {114276302848, 14299, -1059},
                                                {116115795968, 13769, -1074},
                                                {117885313024, 13232, -1093},
                                                {119583838208, 12686, -1107},
                                                {121210322944, 12133, -1123},
                                                {122763804672, 11572, -1136},
                                                {124243337216, 11004, -1148},
                                                {125648027648, 10430, -1162},
                                                {126977036288, 9849, -1172},
                                                {128229548032, 9263, -1185},
                                                {129404821504, 8671, -1196},
                                                {130502160384, 8073, -1203},
                                                {131520880640, 7471, -1213},
                                                {132460384256, 6864, -1220},
                                                {133320069120, 6254, -1230},
                                                {134099484672, 5639, -1236},
                                                {134798106624, 5021, -1242},
                                                {135415529472, 4400, -1247},
                                                {135951388672, 3776, -1250},
                                                {136405348352, 3151, -1258},
                                                {136777142272, 2523, -1260},
                                                {137066565632, 1893, -1260},
                                                {137273401344, 1263, -1263},
                                                {137397559296, 632, -1265}}};

// The unit's squarer: each partial product whose weight is below the lowest column is left out
// before they are added.
[[gnu::always_inline]] inline uint32_t truncated_square(uint32_t x) {
  uint32_t sum = 0;
#pragma GCC unroll 8
  for (int i = kSquareBits / 2; i < kSegmentBits; ++i) {
    // x_i itself has weight 2i, its product with a lower x_j the weight i + j + 1.
    const uint32_t lower = x & ((1U << i) - 1U);
    const int shift = i + 1 - kSquareBits;
    uint32_t part = shift >= 0 ? lower << shift : lower >> -shift;
    if (2 * i >= kSquareBits) part += 1U << (2 * i - kSquareBits);
    sum += part & (0U - ((x >> i) & 1U));
  }
  return sum;
}

// To the 24 significant bits of a float, towards zero; value is not negative.
[[gnu::always_inline]] inline float to_float_towards_zero(double value) {
  constexpr uint64_t kDropped = (uint64_t{1} << (52 - 23)) - 1;
  return static_cast<float>(std::bit_cast<double>(std::bit_cast<uint64_t>(value) & ~kDropped));
}

// `phase`: 2^25 steps of a turn, of which the lower 25 bits count.
[[gnu::always_inline]] inline float sine(uint32_t phase) {
  constexpr uint32_t kQuadrant = 1U << (kTurnBits - 2);
  const uint32_t within = phase % kQuadrant;
  const uint32_t mirrored = 0U - ((phase / kQuadrant) & 1U);
  const uint32_t at = (within ^ mirrored) & (kQuadrant - 1U);  // kQuadrant - 1 - within
  const Segment& segment = kSegments[at >> kSegmentBits];
  const uint32_t x = at & ((1U << kSegmentBits) - 1U);
  const double sum = segment.c0 + segment.c1 * static_cast<double>(static_cast<int32_t>(x)) +
                     segment.c2 * static_cast<double>(static_cast<int32_t>(truncated_square(x)));
  constexpr auto kUnit = std::bit_cast<float>((127 - kUnitBits) << 23);
  const auto sign = ((phase / kQuadrant) & 2U) << 30;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(to_float_towards_zero(sum) * kUnit) ^ sign);
}

// logf of the CUDA 13 toolkit; x is a normal number.
[[gnu::always_inline]] inline float cuda_log(float x) {
  constexpr std::array<float, 9> kPolynomial = {-0x1.0aa04ep-3F, 0x1.2073ecp-3F,  -0x1.f19b98p-4F,
                                                0x1.1e52aap-3F,  -0x1.55b172p-3F, 0x1.99da16p-3F,
                                                -0x1.fffe44p-3F, 0x1.5554fp-2F,   -0.5F};
  const auto bits = std::bit_cast<int32_t>(x);
  constexpr int32_t kTwoThirds = 0x3f2aaaab;
  const int32_t exponent =
      (bits - kTwoThirds) & ~0x7fffff;  // x in [2/3, 4/3) after it is taken off
  const float f = std::bit_cast<float>(bits - exponent) - 1.0F;
  float y = kPolynomial[0];
#pragma GCC unroll 8
  for (size_t i = 1; i < kPolynomial.size(); ++i) y = std::fma(y, f, kPolynomial[i]);
  y = std::fma(y * f, f, f);
  return std::fma(static_cast<float>(exponent) * 0x1p-23F, 0x1.62e430p-1F, y);
}

// The angle is taken as __sincosf does: in turns, rounded towards zero, then the special function
// unit's table, as read off an H200 (docs/numerics.md).
[[gnu::always_inline]] inline void normals(const uint32_t* x, const uint32_t* y, float* first,
                                           float* second, size_t n) {
  constexpr float kInverse = 0x1p-32F;
  constexpr float kInverseTwoPi = 0x1.921fb6p-30F;
  constexpr float kTurn = 0.15915494F;
  for (size_t i = 0; i < n; ++i) {
    const float u = std::fma(static_cast<float>(x[i]), kInverse, kInverse / 2);
    const float v = std::fma(static_cast<float>(y[i]), kInverseTwoPi, kInverseTwoPi / 2);
    const float s = std::sqrt(-2.0F * cuda_log(u));
    const float turns = to_float_towards_zero(static_cast<double>(v) * static_cast<double>(kTurn));
    const auto phase =
        static_cast<uint32_t>(static_cast<int32_t>(turns * static_cast<float>(1U << kTurnBits)));
    first[i] = sine(phase) * s;
    second[i] = sine(phase + (1U << (kTurnBits - 2))) * s;
  }
}

__attribute__((target("avx512f,avx512dq,avx512vl,fma"))) void normals_avx512(
    const uint32_t* x, const uint32_t* y, float* first, float* second, size_t n) {
  normals(x, y, first, second, n);
}
__attribute__((target("avx2,fma"))) void normals_avx2(const uint32_t* x, const uint32_t* y,
                                                      float* first, float* second, size_t n) {
  normals(x, y, first, second, n);
}
void normals_generic(const uint32_t* x, const uint32_t* y, float* first, float* second, size_t n) {
  normals(x, y, first, second, n);
}

auto* choose() {
  if (__builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0) {
    return normals_avx512;
  }
  const bool has_avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  return has_avx2 ? normals_avx2 : normals_generic;
}

}  // namespace

void curand_normals(const uint32_t* x, const uint32_t* y, float* first, float* second, size_t n) {
  static const auto kRun = choose();
  kRun(x, y, first, second, n);
}

}  // namespace halftone
