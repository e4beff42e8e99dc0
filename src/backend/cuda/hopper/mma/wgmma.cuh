// wgmma.mma_async with both operands in shared memory: Wgmma<element, n>::mma accumulates a 64 x n
// block over 32 bytes of K. All operands are K-major.
#pragma once

#include <cstdint>

#include "backend/cuda/hopper/mma/element.h"

namespace halftone::backend::cuda::hopper {

template <Element kElement>
struct Accumulator {
  using Type = float;
};
template <>
struct Accumulator<Element::kS8> {
  using Type = int;
};

template <Element kElement, int kN>
struct Wgmma;

// Register lists: LISTi names 8*i registers of the asm text, BINDi binds them to d[0 .. 8*i).
#define HALFTONE_LIST3 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23"
#define HALFTONE_LIST4 HALFTONE_LIST3 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define HALFTONE_LIST5 HALFTONE_LIST4 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define HALFTONE_LIST6 HALFTONE_LIST5 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define HALFTONE_LIST8 \
  HALFTONE_LIST6 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define HALFTONE_LIST10 \
  HALFTONE_LIST8 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define HALFTONE_LIST12 \
  HALFTONE_LIST10 ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define HALFTONE_LIST15                                                                          \
  HALFTONE_LIST12                                                                                \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114," \
  "%115,%116,%117,%118,%119"
#define HALFTONE_LIST16 HALFTONE_LIST15 ",%120,%121,%122,%123,%124,%125,%126,%127"

#define HALFTONE_BIND1(c, i) \
  c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3]), c(d[i + 4]), c(d[i + 5]), c(d[i + 6]), c(d[i + 7])
#define HALFTONE_BIND3(c) HALFTONE_BIND1(c, 0), HALFTONE_BIND1(c, 8), HALFTONE_BIND1(c, 16)
#define HALFTONE_BIND4(c) HALFTONE_BIND3(c), HALFTONE_BIND1(c, 24)
#define HALFTONE_BIND5(c) HALFTONE_BIND4(c), HALFTONE_BIND1(c, 32)
#define HALFTONE_BIND6(c) HALFTONE_BIND5(c), HALFTONE_BIND1(c, 40)
#define HALFTONE_BIND8(c) HALFTONE_BIND6(c), HALFTONE_BIND1(c, 48), HALFTONE_BIND1(c, 56)
#define HALFTONE_BIND10(c) HALFTONE_BIND8(c), HALFTONE_BIND1(c, 64), HALFTONE_BIND1(c, 72)
#define HALFTONE_BIND12(c) HALFTONE_BIND10(c), HALFTONE_BIND1(c, 80), HALFTONE_BIND1(c, 88)
#define HALFTONE_BIND15(c) \
  HALFTONE_BIND12(c), HALFTONE_BIND1(c, 96), HALFTONE_BIND1(c, 104), HALFTONE_BIND1(c, 112)
#define HALFTONE_BIND16(c) HALFTONE_BIND15(c), HALFTONE_BIND1(c, 120)

// `a`, `b`, `p`: numbers of the operands after the registers, as strings.
#define HALFTONE_WGMMA(element, n, type, constraint, text, tail, groups, a, b, p)                  \
  template <>                                                                                      \
  struct Wgmma<element, n> {                                                                       \
    static __device__ __forceinline__ void mma(type (&d)[n / 2], uint64_t desc_a, uint64_t desc_b, \
                                               int accumulate) {                                   \
      asm volatile(                                                                                \
          "{\n"                                                                                    \
          ".reg .pred p;\n"                                                                        \
          "setp.ne.b32 p, %" p                                                                     \
          ", 0;\n"                                                                                 \
          "wgmma.mma_async.sync.aligned.m64n" #n text " {" HALFTONE_LIST##groups "}, %" a ", %" b  \
                                                                                 ", p" tail        \
                                                                                 ";\n"             \
                                                                                 "}\n"             \
          : HALFTONE_BIND##groups(constraint)                                                      \
          : "l"(desc_a), "l"(desc_b), "r"(accumulate));                                            \
    }                                                                                              \
  };
#define HALFTONE_WGMMA_SIZES(element, type, constraint, text, tail)                   \
  HALFTONE_WGMMA(element, 48, type, constraint, text, tail, 3, "24", "25", "26")      \
  HALFTONE_WGMMA(element, 64, type, constraint, text, tail, 4, "32", "33", "34")      \
  HALFTONE_WGMMA(element, 80, type, constraint, text, tail, 5, "40", "41", "42")      \
  HALFTONE_WGMMA(element, 96, type, constraint, text, tail, 6, "48", "49", "50")      \
  HALFTONE_WGMMA(element, 128, type, constraint, text, tail, 8, "64", "65", "66")     \
  HALFTONE_WGMMA(element, 160, type, constraint, text, tail, 10, "80", "81", "82")    \
  HALFTONE_WGMMA(element, 192, type, constraint, text, tail, 12, "96", "97", "98")    \
  HALFTONE_WGMMA(element, 240, type, constraint, text, tail, 15, "120", "121", "122") \
  HALFTONE_WGMMA(element, 256, type, constraint, text, tail, 16, "128", "129", "130")
#define HALFTONE_INT_REGISTER(x) "+r"(x)
#define HALFTONE_FLOAT_REGISTER(x) "+f"(x)

HALFTONE_WGMMA_SIZES(Element::kS8, int, HALFTONE_INT_REGISTER, "k32.s32.s8.s8", "")
HALFTONE_WGMMA_SIZES(Element::kE4M3, float, HALFTONE_FLOAT_REGISTER, "k32.f32.e4m3.e4m3", ", 1, 1")
HALFTONE_WGMMA_SIZES(Element::kF16, float, HALFTONE_FLOAT_REGISTER, "k16.f32.f16.f16",
                     ", 1, 1, 0, 0")
HALFTONE_WGMMA_SIZES(Element::kBF16, float, HALFTONE_FLOAT_REGISTER, "k16.f32.bf16.bf16",
                     ", 1, 1, 0, 0")

#undef HALFTONE_WGMMA
#undef HALFTONE_WGMMA_SIZES

// The same with a in registers, 32 bytes of K (the fragment of four words). Wgmma64: 64 columns of
// b, which in 16 bits is [k, n] rows of 64 elements, that is N-major; in 8 bits [n, k], K-major.
// Wgmma80: 80 columns, K-major.
template <Element kElement>
struct WgmmaRegisters64;
template <Element kElement>
struct WgmmaRegisters80;
// `a0` to `p`: numbers of the operands after the registers, as strings.
#define HALFTONE_WGMMA_REGISTERS(element, n, text, tail, groups, a0, a1, a2, a3, b, p)    \
  template <>                                                                             \
  struct WgmmaRegisters##n<element> {                                                     \
    static __device__ __forceinline__ void mma(float (&d)[n / 2], const uint32_t (&a)[4], \
                                               uint64_t desc_b, int accumulate) {         \
      asm volatile(                                                                       \
          "{\n"                                                                           \
          ".reg .pred p;\n"                                                               \
          "setp.ne.b32 p, %" p                                                            \
          ", 0;\n"                                                                        \
          "wgmma.mma_async.sync.aligned.m64n" #n text " {" HALFTONE_LIST##groups          \
          "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b ", p, 1, 1" tail                 \
          ";\n"                                                                           \
          "}\n"                                                                           \
          : HALFTONE_BIND##groups(HALFTONE_FLOAT_REGISTER)                                \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc_b), "r"(accumulate));    \
    }                                                                                     \
  };
#define HALFTONE_WGMMA_REGISTERS64(element, text, tail) \
  HALFTONE_WGMMA_REGISTERS(element, 64, text, tail, 4, "32", "33", "34", "35", "36", "37")
#define HALFTONE_WGMMA_REGISTERS80(element, text) \
  HALFTONE_WGMMA_REGISTERS(element, 80, text, ", 0", 5, "40", "41", "42", "43", "44", "45")
HALFTONE_WGMMA_REGISTERS64(Element::kF16, "k16.f32.f16.f16", ", 1")
HALFTONE_WGMMA_REGISTERS64(Element::kBF16, "k16.f32.bf16.bf16", ", 1")
HALFTONE_WGMMA_REGISTERS64(Element::kE4M3, "k32.f32.e4m3.e4m3", "")
HALFTONE_WGMMA_REGISTERS80(Element::kF16, "k16.f32.f16.f16")
HALFTONE_WGMMA_REGISTERS80(Element::kBF16, "k16.f32.bf16.bf16")
#undef HALFTONE_WGMMA_REGISTERS
#undef HALFTONE_WGMMA_REGISTERS64
#undef HALFTONE_WGMMA_REGISTERS80

__device__ __forceinline__ void wgmma_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Descriptor of a K-major operand whose rows are kRowBytes (128 or 64) wide, swizzled over as much.
// Advancing K by 32 bytes adds 2; advancing by r rows (a multiple of 8) adds r * kRowBytes / 16.
template <int kRowBytes>
__device__ __forceinline__ uint64_t operand_descriptor(uint32_t shared) {
  static_assert(kRowBytes == 128 || kRowBytes == 64);
  constexpr uint64_t kLayout = kRowBytes == 128 ? 1 : 2;
  constexpr uint64_t kGroupOfRows = 8 * kRowBytes / 16;
  return (kLayout << 62) | (kGroupOfRows << 32) | (uint64_t{1} << 16) | ((shared & 0x3FFFF) >> 4);
}

}  // namespace halftone::backend::cuda::hopper
