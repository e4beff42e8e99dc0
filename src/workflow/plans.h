// Plans of a model: found by fingerprint in the cache, or built.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "halftone/options.h"
#include "halftone/report.h"

#include "backend/backend.h"
#include "pipeline/components.h"
#include "runtime/plan_cache.h"
#include "workflow/model.h"

namespace halftone::workflow {

struct PlanOptions {
  Precision precision = Precision::kAuto;
  Precision vae_precision = Precision::kAuto;
  std::filesystem::path cache_dir;  // empty = no cache
  // A plan file of the unet that must be taken, or a folder that serves as the cache. Empty = none.
  std::string plan;
  Logger logger;
};

// The model and the device must outlive this.
class PlanMaker {
 public:
  PlanMaker(const Model& model, const backend::Device& device, PlanOptions options);

  // Everything that decides a component's plan for one shape. The plan holds no weights, so their
  // values do not belong to it; the structure of the checkpoint does.
  [[nodiscard]] runtime::Fingerprint fingerprint(const std::string& component,
                                                 const pipeline::ShapeKey& shape) const;
  // From --plan, the cache, or built.
  [[nodiscard]] pipeline::PlanSource get(const std::string& component,
                                         const pipeline::ShapeKey& shape) const;
  // The choice that get() would make, without building.
  [[nodiscard]] PlanChoice choice(const std::string& component,
                                  const pipeline::ShapeKey& shape) const;

  // Never kAuto.
  [[nodiscard]] Precision precision_of(const std::string& component) const;

 private:
  [[nodiscard]] runtime::Plan build(const std::string& component,
                                    const pipeline::ShapeKey& shape) const;
  [[nodiscard]] pipeline::PlanSource from_file(const pipeline::ShapeKey& shape) const;
  [[nodiscard]] std::string readable_name(const std::string& component,
                                          const pipeline::ShapeKey& shape) const;

  const Model& model_;
  const backend::Device& device_;
  PlanOptions options_;
  std::filesystem::path folder_;  // of plans; empty = no cache
  std::string structure_hash_;
};

// On a GPU f16; on a CPU bf16 where it is multiplied natively, else f32. Other values are returned
// unchanged.
[[nodiscard]] Precision resolve_precision(Precision wanted, const backend::DeviceInfo& device);

}  // namespace halftone::workflow
