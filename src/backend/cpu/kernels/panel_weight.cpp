#include "backend/cpu/kernels/panel_weight.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "backend/cpu/parallel.h"
#include "tensor/quantized.h"

namespace halftone::backend::cpu {

PanelWeight::PanelWeight(const TensorType& x, const TensorType& weight, bool geglu)
    : left(x.dtype), groups(geglu ? 2 : 1), channels(x.shape[-1]) {
  if (weight.dtype == DType::kBF16) bits = 16;
  if (weight.dtype == DType::kU8 && channels > 0) bits = weight.shape[-1] * 8 / channels;
  cols = weight.shape[0] / groups;
  panels = divide_up(cols, kPanelCols);
  taps = weight.shape.num_rows() / std::max<int64_t>(weight.shape[0], 1);
  tap_steps = divide_up(channels, step_elements());
  steps = taps * tap_steps;
}

size_t PanelWeight::packed_bytes() const {
  return static_cast<size_t>(groups * panels * stored_panel_bytes());
}

std::string PanelWeight::key() const {
  return fmt::format("panels of {} x {} taps, {} bits for {}", groups, taps, bits, to_string(left));
}

void PanelWeight::pack(int threads, const TensorView& weight, std::byte* packed) const {
  const Rows rows(weight);
  parallel_for(threads, groups * panels, [&](int64_t task, int) {
    const int64_t group = task / panels;
    for (int64_t block = 0; block < 2; ++block) {
      const int64_t col = (task % panels * 2 + block) * kPanelCols / 2;
      for (int64_t step = 0; step < steps; ++step) {
        const int64_t tile = (task * 2 + block) * steps + step;
        pack_tile(rows, group * cols + col, (group + 1) * cols, step,
                  packed + tile * stored_tile_bytes());
      }
    }
  });
}

namespace {

// Pieces of kBytes of a row, a column of the tile: what four bytes of a left row multiply.
template <int64_t kBytes>
void place_column(const std::byte* from, int64_t bytes, std::byte* tile) {
  constexpr int64_t kPitch = kPanelCols / 2 * kBytes;
  for (; bytes >= kBytes; bytes -= kBytes, from += kBytes, tile += kPitch) {
    std::memcpy(tile, from, kBytes);
  }
  std::memcpy(tile, from, static_cast<size_t>(bytes));
}

}  // namespace

void PanelWeight::pack_tile(const Rows& weight, int64_t first, int64_t end, int64_t step,
                            std::byte* tile) const {
  std::memset(tile, 0, static_cast<size_t>(stored_tile_bytes()));
  const int64_t tap = step / tap_steps;
  const int64_t channel = step % tap_steps * step_elements();
  const int64_t count = std::min(step_elements(), channels - channel);
  for (int64_t col = first; col < std::min(end, first + kPanelCols / 2); ++col) {
    const std::byte* row = weight.at(col * taps + tap);
    if (bits < 8) {
      pack_bits(row, channel, count, col - first, tile);
    } else if (is_expanded()) {
      place_column<2>(row + channel, count, tile + (col - first) * 2);
    } else {
      place_column<4>(row + channel * bits / 8, count * bits / 8, tile + (col - first) * 4);
    }
  }
}

void PanelWeight::pack_bits(const std::byte* row, int64_t channel, int64_t count, int64_t col,
                            std::byte* tile) const {
  const int64_t of_group = 4 / element_bytes();  // elements in four bytes
  const int64_t part = tile_elements() * bits / 8;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = (i / of_group * kPanelCols / 2 + col) * of_group + i % of_group;
    const int32_t value = packed_at(reinterpret_cast<const uint8_t*>(row), channel + i, bits);
    const uint32_t field = static_cast<uint32_t>(value) & ((1U << bits) - 1U);
    tile[at % part] |= static_cast<std::byte>(field << (at / part * bits));
  }
}

const std::byte* PanelWeight::panel(const VectorOps& ops, const std::byte* packed, int64_t group,
                                    int64_t index, std::byte* scratch) const {
  const std::byte* stored = stored_panel(packed, group, index);
  if (!is_expanded()) return stored;
  alignas(64) int8_t integers[kPanelTileBytes];
  for (int64_t tile = 0; tile < 2 * steps; ++tile, stored += stored_tile_bytes()) {
    std::byte* to = scratch + tile * kPanelTileBytes;
    if (left == DType::kI8) {
      ops.unpack(stored, bits, reinterpret_cast<int8_t*>(to), tile_elements());
      continue;
    }
    const auto* codes = reinterpret_cast<const int8_t*>(stored);
    if (bits < 8) {
      ops.unpack(stored, bits, integers, tile_elements());
      codes = integers;
    }
    ops.widen_to_bf16(codes, reinterpret_cast<uint16_t*>(to), tile_elements());
  }
  return scratch;
}

}  // namespace halftone::backend::cpu
