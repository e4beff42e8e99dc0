#include "workflow/compare/latent_traces.h"

#include <algorithm>

namespace halftone::workflow {

void LatentTraces::keep(size_t prompt, int step, std::span<const float> latent) {
  bytes_ += latent.size_bytes();
  if (!last_only_ && bytes_ > max_bytes_) {
    last_only_ = true;
    for (Prompt& one : prompts_) {
      while (one.latents.size() > 1) one.latents.erase(one.latents.begin());
    }
  }
  auto& latents = prompts_[prompt].latents;
  if (last_only_) latents.clear();
  latents[step].assign(latent.begin(), latent.end());
}

void LatentTraces::measure(size_t prompt, int step, std::span<const float> latent) {
  Prompt& one = prompts_[prompt];
  const auto found = one.latents.find(step);
  if (found == one.latents.end() || found->second.size() != latent.size()) return;
  one.errors[step].add(found->second, latent);
  one.latents.erase(found);
}

std::optional<metrics::ErrorSum> LatentTraces::last(size_t prompt) const {
  const auto& errors = prompts_[prompt].errors;
  if (errors.empty()) return std::nullopt;
  return errors.rbegin()->second;
}

std::vector<double> LatentTraces::sqnr_at(int step) const {
  std::vector<double> values;
  for (const Prompt& prompt : prompts_) {
    const auto found = prompt.errors.find(step);
    if (found != prompt.errors.end()) values.push_back(found->second.sqnr());
  }
  return values;
}

int LatentTraces::num_steps() const {
  if (last_only_) return 0;
  int steps = 0;
  for (const Prompt& prompt : prompts_) {
    if (!prompt.errors.empty()) steps = std::max(steps, prompt.errors.rbegin()->first + 1);
  }
  return steps;
}

}  // namespace halftone::workflow
