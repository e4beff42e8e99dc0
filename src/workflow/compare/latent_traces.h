// Latents of the first side's steps, and how far the second side's are from them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "metrics/signal.h"

namespace halftone::workflow {

class LatentTraces {
 public:
  // Above `max_bytes` only the last step of each prompt is kept.
  explicit LatentTraces(size_t num_prompts, uint64_t max_bytes = uint64_t{512} << 20)
      : prompts_(num_prompts), max_bytes_(max_bytes) {}

  void keep(size_t prompt, int step, std::span<const float> latent);
  // Compares with what was kept of that step; nothing when it was not.
  void measure(size_t prompt, int step, std::span<const float> latent);

  // Of the last measured step.
  [[nodiscard]] std::optional<metrics::ErrorSum> last(size_t prompt) const;
  // SQNR of every prompt that has the step; steps from 0 to num_steps() - 1.
  [[nodiscard]] std::vector<double> sqnr_at(int step) const;
  [[nodiscard]] int num_steps() const;

 private:
  struct Prompt {
    std::map<int, std::vector<float>> latents;
    std::map<int, metrics::ErrorSum> errors;
  };
  std::vector<Prompt> prompts_;
  uint64_t max_bytes_;
  uint64_t bytes_ = 0;
  bool last_only_ = false;
};

}  // namespace halftone::workflow
