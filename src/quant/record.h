// The calibration record: what the values of a model's graph looked like while it drew. A file that
// later runs reuse, resume and extend.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace halftone::quant {

// Statistics of one value. m = max |x| over one call (one evaluation of the denoiser: the whole,
// CFG-doubled, batch).
struct ValueStats {
  int64_t channels = 0;
  // One entry a denoising step; values made once a prompt have one entry.
  std::vector<float> sum, max, min;  // of m over the calls seen at that step
  std::vector<int64_t> calls;
  // Over everything.
  float low = 0, high = 0;          // signed extremes
  float ema_low = 0, ema_high = 0;  // of the calls' signed extremes, momentum 0.95
  std::vector<float> column_amax;   // [channels]
  std::vector<int64_t> histogram;   // of |x|, graph::Histogram's bins
  bool operator==(const ValueStats&) const = default;
};

struct CalibrationRecord {
  // What the statistics depend on, in a fixed order: model and weights hash, precision, prompts
  // hash, steps, batch, negative prompt, guidance, seed, scheduler, size. Not the number of
  // samples: a record is extended.
  std::vector<std::pair<std::string, std::string>> key;
  int num_steps = 0;
  int64_t samples = 0;  // prompts seen so far, in the order of the prompt file
  // By the name of the value: the first layer that reads it (quant/taps.h).
  std::map<std::string, ValueStats> values;
  // Layer -> value it reads.
  std::map<std::string, std::string> layers;

  // The statistics of a layer's input, or null when it was not tapped.
  [[nodiscard]] const ValueStats* find(const std::string& layer) const;
  // The same without the first token of a text; null for what is no text.
  [[nodiscard]] const ValueStats* find_without_first(const std::string& layer) const;
  [[nodiscard]] std::string entry(std::string_view name) const;  // of the key; empty when absent
  // 64 hex digits over everything.
  [[nodiscard]] std::string hash() const;
  bool operator==(const CalibrationRecord&) const = default;
};

// The name under which a text's statistics without its first token lie: "<value>/without_first".
[[nodiscard]] std::string without_first(std::string_view value);

// One safetensors file; it appears whole or not at all.
void save(const CalibrationRecord& record, const std::filesystem::path& path);
// Throws kNotFound, or kCorruptFile for a file that is no record or holds impossible statistics
// (negative or NaN maxima, other lengths, unknown versions).
[[nodiscard]] CalibrationRecord load_record(const std::filesystem::path& path);

}  // namespace halftone::quant
