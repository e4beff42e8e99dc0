// A weight as panels (simd/panels.h) for products with int8 or bf16 rows.
#pragma once

#include <string>

#include "backend/cpu/call.h"
#include "backend/cpu/simd/panels.h"

namespace halftone::backend::cpu {

// Sizes of a packed weight. Integers stay as wide as they are stored: a tile of b-bit integers has
// n = 8 / b parts, byte i holding element i of every part.
struct PanelWeight {
  DType left = DType::kI8;  // of the rows that it multiplies: i8 or bf16
  int64_t bits = 8;         // of a stored element; 16: bf16
  int64_t groups = 1;       // 2 with geglu: values, then gates
  int64_t cols = 0;         // of a group
  int64_t panels = 0;       // of a group
  int64_t taps = 1;         // of a convolution's kernel
  int64_t channels = 0;     // of x
  int64_t tap_steps = 0;    // steps of a tap; the last may be filled with zeros
  int64_t steps = 0;

  // x is i8 or bf16, weight i8, packed u8 or bf16.
  PanelWeight(const TensorType& x, const TensorType& weight, bool geglu);

  [[nodiscard]] int64_t element_bytes() const { return left == DType::kI8 ? 1 : 2; }
  [[nodiscard]] int64_t step_elements() const { return kStepBytes / element_bytes(); }
  [[nodiscard]] int64_t tile_elements() const { return kPanelTileBytes / element_bytes(); }
  [[nodiscard]] int64_t stored_tile_bytes() const { return tile_elements() * bits / 8; }
  [[nodiscard]] bool is_expanded() const { return bits < 8 * element_bytes(); }
  // Of one panel, as the product reads it.
  [[nodiscard]] int64_t panel_bytes() const { return 2 * steps * kPanelTileBytes; }
  [[nodiscard]] int64_t stored_panel_bytes() const { return 2 * steps * stored_tile_bytes(); }
  [[nodiscard]] size_t packed_bytes() const;
  [[nodiscard]] std::string key() const;

  void pack(int threads, const TensorView& weight, std::byte* packed) const;
  // Where a packed panel lies.
  [[nodiscard]] const std::byte* stored_panel(const std::byte* packed, int64_t group,
                                              int64_t index) const {
    return packed + (group * panels + index) * stored_panel_bytes();
  }
  // The panel as the product reads it: where it lies, or expanded into `scratch`.
  const std::byte* panel(const VectorOps& ops, const std::byte* packed, int64_t group,
                         int64_t index, std::byte* scratch) const;

 private:
  // Columns from `first` up to 16, before `end`, of a step.
  void pack_tile(const Rows& weight, int64_t first, int64_t end, int64_t step,
                 std::byte* tile) const;
  // Elements of one column of 2 or 4 bits.
  void pack_bits(const std::byte* row, int64_t channel, int64_t count, int64_t col,
                 std::byte* tile) const;
};

}  // namespace halftone::backend::cpu
