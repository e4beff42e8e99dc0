#include "base/cuda_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

// This file is compiled with -ffp-contract=off, as rng.cpp.

namespace halftone {
namespace {

constexpr int kTurnBits = 25;     // what the unit keeps of the argument's fraction
constexpr int kSegmentBits = 17;  // the lower bits of a quadrant's 23; the upper 6 choose a segment
constexpr int kUnitBits = 37;     // the sum counts in 2^-37
constexpr int kSquareBits = 19;   // columns of the square below this one do not exist

// sin = c0 + c1 x + c2 square(x) over one 64th of a quadrant, x from 0 to 2^17 - 1.
struct Segment {
  int64_t c0;
  int32_t c1, c2;
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
int64_t truncated_square(uint32_t x) {
  uint32_t sum = 0;
  for (int i = kSquareBits / 2; i < kSegmentBits; ++i) {
    if (((x >> i) & 1U) == 0) continue;
    // x_i itself has weight 2i, its product with a lower x_j the weight i + j + 1.
    const uint32_t lower = x & ((1U << i) - 1U);
    const int shift = i + 1 - kSquareBits;
    sum += shift >= 0 ? lower << shift : lower >> -shift;
    if (2 * i >= kSquareBits) sum += 1U << (2 * i - kSquareBits);
  }
  return sum;
}

// `phase`: 2^23 steps of the first quadrant.
float quadrant_sine(uint32_t phase) {
  const Segment& segment = kSegments[phase >> kSegmentBits];
  const uint32_t x = phase & ((1U << kSegmentBits) - 1U);
  const int64_t sum = segment.c0 + segment.c1 * int64_t{x} + segment.c2 * truncated_square(x);
  // To 24 significant bits, towards zero; the power of two is exact.
  const int extra = std::max(static_cast<int>(std::bit_width(static_cast<uint64_t>(sum))) - 24, 0);
  const auto unit = std::bit_cast<float>((127 + extra - kUnitBits) << 23);
  return static_cast<float>(sum >> extra) * unit;
}

// `phase`: 2^25 steps of a turn, of which the lower 25 bits count.
float sine(uint32_t phase) {
  constexpr uint32_t kQuadrant = 1U << (kTurnBits - 2);
  const uint32_t quadrant = (phase / kQuadrant) % 4;
  const uint32_t within = phase % kQuadrant;
  const float value = quadrant_sine(quadrant % 2 == 0 ? within : kQuadrant - 1 - within);
  return quadrant < 2 ? value : -value;
}

// a * b rounded towards zero; a and b are positive.
float multiply_towards_zero(float a, float b) {
  const double exact = static_cast<double>(a) * static_cast<double>(b);
  const auto rounded = static_cast<float>(exact);
  return static_cast<double>(rounded) > exact ? std::nextafter(rounded, 0.0F) : rounded;
}

}  // namespace

CudaSinCos cuda_fast_sincos(float angle) {
  const float turns = multiply_towards_zero(angle, 0.15915494F);
  const auto phase = static_cast<uint32_t>(turns * (1U << kTurnBits));
  return {sine(phase), sine(phase + (1U << (kTurnBits - 2)))};
}

float cuda_log(float x) {
  constexpr std::array<float, 9> kPolynomial = {-0x1.0aa04ep-3F, 0x1.2073ecp-3F,  -0x1.f19b98p-4F,
                                                0x1.1e52aap-3F,  -0x1.55b172p-3F, 0x1.99da16p-3F,
                                                -0x1.fffe44p-3F, 0x1.5554fp-2F,   -0.5F};
  const auto bits = std::bit_cast<int32_t>(x);
  constexpr int32_t kTwoThirds = 0x3f2aaaab;
  const int32_t exponent =
      (bits - kTwoThirds) & ~0x7fffff;  // x in [2/3, 4/3) after it is taken off
  const float f = std::bit_cast<float>(bits - exponent) - 1.0F;
  float y = kPolynomial[0];
  for (size_t i = 1; i < kPolynomial.size(); ++i) y = std::fma(y, f, kPolynomial[i]);
  y = std::fma(y * f, f, f);
  return std::fma(static_cast<float>(exponent) * 0x1p-23F, 0x1.62e430p-1F, y);
}

}  // namespace halftone
