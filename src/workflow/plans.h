// Plans of a model: found by fingerprint in the cache, or built.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "halftone/options.h"
#include "halftone/report.h"

#include "backend/backend.h"
#include "compile/compile.h"
#include "pipeline/components.h"
#include "runtime/plan_cache.h"
#include "workflow/model.h"
#include "workflow/plan_check.h"
#include "workflow/quantization.h"

namespace halftone {
struct QuantizedLayer;
}

namespace halftone::workflow {

struct PlanOptions {
  Precision precision = Precision::kAuto;
  Precision vae_precision = Precision::kAuto;
  std::filesystem::path cache_dir{};   // empty = no cache
  std::filesystem::path engine_dir{};  // keeps the plans in place of the cache's; empty = none
  // A plan file of the unet that must be taken, or a folder of plan files that all come from.
  // Empty = none.
  std::string plan{};
  QuantizationOptions quantization{};
  // The unet's (the VAE decoder's) plan has calibration taps (quant/taps.h); nothing is quantized.
  bool taps = false;
  bool decoder_taps = false;
  bool shows_inputs = false;  // the unet's (show_inputs in workflow/suffix.h)
  std::vector<std::string> disabled_passes{};
  std::vector<std::string> disabled_kernels{};  // names or prefixes ending in '*'
  Logger logger{};
};

// Of the sources that decide what a plan is, as this program was built from them: 16 digits.
[[nodiscard]] std::string_view plan_makers_hash();

// The model and the device must outlive this.
class PlanMaker {
 public:
  PlanMaker(const Model& model, const backend::Device& device, PlanOptions options);

  // Everything that decides a component's plan for one shape. The plan holds no weights, so their
  // values do not belong to it; the structure of the checkpoint does, and the LoRAs, whose
  // sums a plan may come to keep.
  [[nodiscard]] runtime::Fingerprint fingerprint(const std::string& component,
                                                 const pipeline::ShapeKey& shape) const;
  // From --plan, the cache, or built.
  [[nodiscard]] pipeline::PlanSource get(const std::string& component,
                                         const pipeline::ShapeKey& shape) const;
  // The choice that get() would make, without building.
  [[nodiscard]] PlanChoice choice(const std::string& component,
                                  const pipeline::ShapeKey& shape) const;

  // What a component computes in around its quantized layers; never kAuto, kI8 or kF8.
  [[nodiscard]] Precision precision_of(const std::string& component) const;
  // The unet's; null when it is not quantized.
  [[nodiscard]] const Quantization* quantization() const {
    return quantization_ ? &*quantization_ : nullptr;
  }
  // Of any component.
  [[nodiscard]] const Quantization* quantization_of(const std::string& component) const;
  // "bf16", or "bf16+int8.l2.5.s20.c32.p1.0.a0.8".
  [[nodiscard]] std::string precision_name(const std::string& component) const;
  // Whether a component's plan has calibration taps.
  [[nodiscard]] bool has_taps(const std::string& component) const;
  // A component's graph as it is compiled, before passes. `rows`: what the recipe did to each
  // layer, unchanged when there is none.
  [[nodiscard]] graph::Graph graph(const std::string& component, const pipeline::ShapeKey& shape,
                                   std::vector<QuantizedLayer>* rows = nullptr) const;

 private:
  [[nodiscard]] bool shows_inputs(const std::string& component) const;
  [[nodiscard]] runtime::Plan build(const std::string& component,
                                    const pipeline::ShapeKey& shape) const;
  // A plan that the user named.
  struct FilePlan {
    std::string file;
    std::shared_ptr<const runtime::Plan> plan;
  };
  // Whether this component's plans must come from what options_.plan names.
  [[nodiscard]] bool is_from_file(const std::string& component) const;
  // Reads and checks options_.plan, and takes over what the unet's computes in.
  void take_files();
  // Warns of quantization options that change nothing.
  void warn_of_unread(Precision asked) const;
  // What the other options ask of the plan in `file`.
  [[nodiscard]] PlanWish wish(const std::string& file) const;
  // Of the unet's plans those that fit the other options. Throws what the last one lacks when none
  // does.
  void keep_fitting();
  // Names the file that keeps a quantized component's finished weights between starts.
  void keep_constants(const std::string& component, pipeline::PlanSource& source) const;
  [[nodiscard]] const FilePlan& from_file(const std::string& component,
                                          const pipeline::ShapeKey& shape) const;
  [[nodiscard]] compile::CompileOptions compile_options() const;
  // Of the LoRAs that change a component; empty when none does.
  [[nodiscard]] std::string lora_identity(const std::string& component) const;
  [[nodiscard]] std::string readable_name(const std::string& component,
                                          const pipeline::ShapeKey& shape) const;

  const Model& model_;
  const backend::Device& device_;
  PlanOptions options_;
  std::filesystem::path folder_;  // that keeps plans; empty = none does
  std::vector<FilePlan> files_;   // with options_.plan; the unet's all compute alike
  bool has_plan_folder_ = false;  // options_.plan is one
  std::string structure_hash_;
  std::optional<Quantization> quantization_, decoder_quantization_;
  std::string content_hash_;  // with quantization: smoothing factors come from the weights
};

// Of a plan: "bf16", or "bf16+int8.l2.5.s20.c32.p1.0.a0.8", with " (simulated)" when not folded.
[[nodiscard]] std::string precision_name(const runtime::Plan& plan);

// On a GPU f16; on a CPU bf16 where it is multiplied natively, else f32. Other values are returned
// unchanged.
[[nodiscard]] Precision resolve_precision(Precision wanted, const backend::DeviceInfo& device);
// `precision` is the denoiser's, resolved. kI8 resolves to what is computed around its integers.
[[nodiscard]] Precision resolve_vae_precision(Precision wanted, Precision precision,
                                              const backend::DeviceInfo& device);

}  // namespace halftone::workflow
