// The tiles of products of codes: those that end in 16 bits the same ones for f16 and for bf16,
// each compiled in a file of its own.
#pragma once

#include <vector>

#include "backend/cuda/hopper/gemm_instance.cuh"

namespace halftone::backend::cuda::hopper {

template <Element kOut>
[[nodiscard]] std::vector<GemmKernel> s8_linear_tiles() {
  using enum Element;
  using enum Form;
  return {
      instance<kS8, kOut, kPlain, false, 128, 160, 128, 1, false>(),
      instance<kS8, kOut, kPlain, false, 128, 160, 128, 1, true>(),
      instance<kS8, kOut, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kS8, kOut, kPlain, false, 128, 160, 128, 2, false>(),
      instance<kS8, kOut, kPlain, false, 128, 256, 128, 1, false>(),
      instance<kS8, kOut, kPlain, false, 128, 128, 128, 2, true>(),
      instance<kS8, kOut, kPlain, false, 128, 192, 128, 2, false>(),
      instance<kS8, kOut, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kS8, kOut, kPlain, false, 64, 80, 128, 1, true, 0, 2>(),
      instance<kS8, kOut, kPlain, false, 64, 128, 128, 2, true>(),
      instance<kS8, kOut, kPlain, false, 64, 48, 128, 2, true>(),
  };
}

template <Element kOut>
[[nodiscard]] std::vector<GemmKernel> e4m3_linear_tiles() {
  using enum Element;
  using enum Form;
  return {
      instance<kE4M3, kOut, kPlain, false, 128, 160, 128, 1, false, 8>(),
      instance<kE4M3, kOut, kPlain, false, 128, 160, 128, 1, true>(),
      instance<kE4M3, kOut, kPlain, false, 128, 160, 128, 2, false, 8>(),
      instance<kE4M3, kOut, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kE4M3, kOut, kPlain, false, 128, 256, 128, 1, false>(),
      instance<kE4M3, kOut, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kE4M3, kOut, kPlain, false, 64, 80, 128, 1, true, 0, 2>(),
      instance<kE4M3, kOut, kPlain, false, 64, 128, 128, 2, true>(),
  };
}

// kOut may be codes here.
template <Element kIn, Element kOut>
[[nodiscard]] std::vector<GemmKernel> geglu_tiles() {
  using enum Form;
  return {
      instance<kIn, kOut, kGeglu, false, 128, 160, 128, 1, true>(),
      instance<kIn, kOut, kGeglu, false, 128, 160, 128, 2, true>(),
      instance<kIn, kOut, kGeglu, false, 128, 160, 128, 2, false>(),
  };
}

// With SiLU or a GELU. kOut may be codes here too.
template <Element kIn, Element kOut>
[[nodiscard]] std::vector<GemmKernel> activated_tiles() {
  using enum Form;
  constexpr int kPromote = kIn == Element::kE4M3 ? 8 : 0;
  return {
      instance<kIn, kOut, kActivated, false, 128, 160, 128, 2, true>(),
      instance<kIn, kOut, kActivated, false, 128, 160, 128, 2, false, kPromote>(),
      instance<kIn, kOut, kActivated, false, 64, 80, 128, 2, true>(),
  };
}

// Linears that take amax.
template <Element kIn, Element kOut>
[[nodiscard]] std::vector<GemmKernel> amax_tiles() {
  using enum Form;
  constexpr int kPromote = kIn == Element::kE4M3 ? 8 : 0;
  return {
      instance<kIn, kOut, kGeglu, false, 128, 160, 128, 1, true, 0, 1, true>(),
      instance<kIn, kOut, kGeglu, false, 128, 160, 128, 2, true, 0, 1, true>(),
      instance<kIn, kOut, kGeglu, false, 128, 160, 128, 2, false, 0, 1, true>(),
      instance<kIn, kOut, kPlain, false, 128, 160, 128, 2, true, 0, 1, true>(),
      instance<kIn, kOut, kPlain, false, 128, 160, 128, 2, false, kPromote, 1, true>(),
      instance<kIn, kOut, kPlain, false, 64, 80, 128, 2, true, 0, 1, true>(),
  };
}

template <Element kOut>
[[nodiscard]] std::vector<GemmKernel> s8_conv_tiles() {
  using enum Element;
  using enum Form;
  return {
      instance<kS8, kOut, kPlain, true, 128, 160, 128, 1, false>(),
      instance<kS8, kOut, kPlain, true, 128, 160, 128, 2, false>(),
      instance<kS8, kOut, kPlain, true, 128, 160, 64, 2, false>(),
      instance<kS8, kOut, kPlain, true, 256, 160, 64, 1, false>(),
      instance<kS8, kOut, kPlain, true, 256, 160, 64, 2, false>(),
      instance<kS8, kOut, kPlain, true, 64, 80, 128, 2, true>(),
      instance<kS8, kOut, kPlain, true, 64, 80, 128, 1, true, 0, 2>(),
      instance<kS8, kOut, kPlain, true, 64, 160, 128, 1, true, 0, 2>(),
  };
}

template <Element kOut>
[[nodiscard]] std::vector<GemmKernel> e4m3_conv_tiles() {
  using enum Element;
  using enum Form;
  return {
      instance<kE4M3, kOut, kPlain, true, 128, 160, 128, 1, false, 8>(),
      instance<kE4M3, kOut, kPlain, true, 128, 160, 128, 2, false, 8>(),
      instance<kE4M3, kOut, kPlain, true, 128, 160, 64, 2, false, 16>(),
      instance<kE4M3, kOut, kPlain, true, 256, 160, 64, 1, false>(),
      instance<kE4M3, kOut, kPlain, true, 256, 160, 64, 2, false>(),
      instance<kE4M3, kOut, kPlain, true, 64, 80, 128, 1, true, 8, 2>(),
      instance<kE4M3, kOut, kPlain, true, 64, 160, 128, 1, true, 8, 2>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
