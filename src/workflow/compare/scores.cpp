#include "workflow/compare/scores.h"

namespace halftone::workflow {

Scores::Scores(backend::Device& device, const CompareOptions& options) {
  if (!options.clip_model.empty()) {
    clip_ = std::make_unique<ClipScorer>(device, options.clip_model, options.session.logger);
  }
  if (!options.lpips.empty()) {
    const std::vector<std::filesystem::path> paths(options.lpips.begin(), options.lpips.end());
    lpips_ = std::make_unique<LpipsScorer>(device, paths, options.session.logger);
  }
}

void Scores::add(const metrics::RgbView& a, const metrics::RgbView& b, PromptComparison& to) {
  if (clip_) {
    to.clip_a = clip_->score(a, to.prompt);
    to.clip_b = clip_->score(b, to.prompt);
  }
  if (lpips_) to.lpips = lpips_->distance(a, b);
}

std::string Scores::lpips_network() const {
  return lpips_ ? std::string(lpips_->network()) : std::string();
}

}  // namespace halftone::workflow
