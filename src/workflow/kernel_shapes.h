// The linears, convolutions, attentions, norms and quantizings that SDXL and SD3 are made of.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/ops/ops.h"

namespace halftone::workflow {

struct KernelShape {
  enum class Kind : uint8_t {
    kLinear,
    kGeglu,
    kConv,
    kAttention,
    kGroupNorm,
    kLayerNorm,
    kQuantize
  } kind;
  std::string_view network;
  int calls;  // in one forward
  // kLinear, kGeglu: rows, outputs (both halves), inputs. kConv: 3x3 with padding 1 of `batch`
  // images of `size` squared. kAttention: tokens of queries and keys, heads of `width`.
  // kGroupNorm: `batch` images of `size` squared, `in` channels, then SiLU. kLayerNorm, kQuantize:
  // rows of `in`.
  int64_t batch = 1, rows = 0, out = 0, in = 0, size = 0, keys = 0, heads = 0, width = 0;
  // A convolution that also makes statistics of kGroups groups, a group norm that reads them; a
  // linear that takes amax, a quantizing that reads it.
  bool measured = false;
  // A quantizing, a linear of codes: one scale for all rows instead of each row's own.
  bool one_scale = false;
  // A linear with a residual; one that describes its rows, one that reads described rows
  // (graph/ops/linear.h), both in 16 bits.
  bool residual = false, describes = false, normalizes = false;
  // An attention of 16-bit operands whose result is codes of a static scale.
  bool to_codes = false;
  // Of a self-attention in 8 bits: the linear of q, k and v, which ends in f8e4m3, and the
  // attention of such codes, which ends in those of the element type.
  bool coded = false;
  // Linears: behind them the GELU (tanh) of transformers whose feed-forward has no gate.
  bool gelu = false;
  // An attention that computes its queries from x, which has as many channels as its heads.
  bool projects = false;
  // A linear of x in f16 by a weight of 8-bit codes, without a bias, which comes from memory.
  bool weight_only = false;
  static constexpr int64_t kGroups = 32;

  // The same of so many images at once; `calls` stay.
  [[nodiscard]] KernelShape of_images(int64_t count) const;
  [[nodiscard]] std::string text() const;
  // Whether the op exists in an element type.
  [[nodiscard]] bool takes(DType dtype) const;
  // The op in an element type; 8-bit ones have scales and a 16-bit result. Norms and quantizing
  // make it: to 8 bits of f16, a group norm with a known scale, the others with dynamic ones.
  [[nodiscard]] graph::OpAttrs attrs(DType dtype) const;
  [[nodiscard]] std::vector<graph::TypedOperand> operands(DType dtype) const;
};

[[nodiscard]] std::span<const KernelShape> kernel_shapes();

}  // namespace halftone::workflow
