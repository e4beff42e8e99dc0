// The scores of a comparison that need weight files.
#pragma once

#include <memory>

#include "halftone/compare.h"

#include "backend/backend.h"
#include "metrics/image_metrics.h"
#include "workflow/compare/clip_score.h"
#include "workflow/compare/lpips.h"

namespace halftone::workflow {

class Scores {
 public:
  // Opens and checks the files that the options name. The device must outlive this.
  Scores(backend::Device& device, const CompareOptions& options);

  // Adds what was asked for to `to`, whose prompt is there.
  void add(const metrics::RgbView& a, const metrics::RgbView& b, PromptComparison& to);
  // Of LPIPS; empty without it.
  [[nodiscard]] std::string lpips_network() const;

 private:
  std::unique_ptr<ClipScorer> clip_;
  std::unique_ptr<LpipsScorer> lpips_;
};

}  // namespace halftone::workflow
