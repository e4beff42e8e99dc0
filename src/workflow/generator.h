// Generating, building and measuring with one opened model.
#pragma once

#include <functional>
#include <memory>

#include "halftone/options.h"
#include "halftone/report.h"

#include "backend/backend.h"
#include "pipeline/pipeline.h"
#include "workflow/model.h"
#include "workflow/plans.h"
#include "workflow/reference_check.h"
#include "workflow/request.h"

namespace halftone::workflow {

using ImageSink = std::function<void(Image&& image)>;
using StepSink = std::function<void(int row, const runtime::Executor& denoiser)>;

// One caller at a time; the device must outlive it.
class Generator {
 public:
  // With `taps` the denoiser is not quantized and measures its values (quant/taps.h); on_step reads
  // them.
  Generator(backend::Device& device, SessionOptions options, bool taps = false);

  [[nodiscard]] const Model& model() const { return model_; }
  [[nodiscard]] const PlanMaker& plans() const { return plans_; }
  [[nodiscard]] DryRun dry_run(const GenerateOptions& options) const;
  // `on_step` sees the denoiser after each row of the schedule.
  GenerateReport generate(const GenerateOptions& options, const ImageSink& on_image,
                          const StepSink& on_step = {});
  BuildReport build(const BuildOptions& options);
  BenchReport bench(const BenchOptions& options);

 private:
  [[nodiscard]] PreparedRequest prepare(const GenerateOptions& options) const;
  pipeline::Pipeline& pipeline(bool profile);
  [[nodiscard]] bool pairs_texts() const;
  [[nodiscard]] std::function<void(const std::string&, const runtime::ObservedCall&)> observer();
  // For results that are not finite in the precision asked for.
  const PlanMaker& fp32_plans();
  [[nodiscard]] PlanUse plan_use(const pipeline::Components::Use& use) const;
  void time_builds(const GenerateOptions& options, BenchReport& report);
  void report_memory(GenerateReport& report) const;

  backend::Device& device_;
  SessionOptions options_;
  Model model_;
  PlanMaker plans_;
  std::unique_ptr<PlanMaker> fp32_plans_;  // made on first use
  std::unique_ptr<pipeline::Pipeline> pipeline_;
  bool profiled_ = false;
  ReferenceCheck reference_check_;
  std::vector<std::string> warnings_;  // of the current call
};

}  // namespace halftone::workflow
