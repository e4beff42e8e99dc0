// From tensor names of single-file checkpoints to diffusers names.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::io {

// What the maps must know of the configs.
struct NameMapContext {
  uint64_t unet_layers_per_block = 2;
  uint64_t vae_levels = 4;  // length of the VAE's block_out_channels
};

// A tensor that a stored one holds: the whole, or one of `num_parts` equal runs of rows.
struct MappedTensor {
  std::string component;
  std::string name;
  bool transposed = false;
  uint64_t part = 0;
  uint64_t num_parts = 1;
};

struct NameMap {
  std::string_view name;
  // Nullopt: not a name of this map. Empty: known, and of no use (position ids, logit scale).
  std::optional<std::vector<MappedTensor>> (*map)(std::string_view stored,
                                                  const NameMapContext& context);
};

[[nodiscard]] std::span<const NameMap* const> name_maps();

// A name split at its dots, with checked access; parts past the end are empty.
class DottedName {
 public:
  explicit DottedName(std::string_view text);
  [[nodiscard]] std::string_view operator[](size_t i) const {
    return i < parts_.size() ? parts_[i] : std::string_view();
  }
  [[nodiscard]] size_t size() const { return parts_.size(); }
  // The parts from `i` on, joined again.
  [[nodiscard]] std::string_view from(size_t i) const;
  // The part as a small number.
  [[nodiscard]] std::optional<uint64_t> index(size_t i) const;

 private:
  std::string_view text_;
  std::vector<std::string_view> parts_;
};

// One row of a renaming table; keys are whole dotted prefixes.
struct Rename {
  std::string_view from;
  std::string_view to;
};
// `text` with its leading `from` replaced by the first row that fits at a dot or the end.
[[nodiscard]] std::optional<std::string> rename(std::string_view text,
                                                std::span<const Rename> table);

// The LDM names that a module of our UNet may have ("conv_in" -> "input_blocks.0.0"), without the
// single files' prefix; an upsampler has two, for levels with and without attention.
[[nodiscard]] std::vector<std::string> ldm_names(std::string_view module,
                                                 uint64_t layers_per_block);

}  // namespace halftone::io
