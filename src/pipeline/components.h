// The executors of a pipeline's components: made on demand from plans, kept for the last few
// shapes.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/executor.h"

namespace halftone::pipeline {

using ShapeKey = std::map<std::string, int64_t>;  // as runtime::Profile::shape

// A plan that holds a profile for the wanted shape, and where its weights are.
struct PlanSource {
  std::shared_ptr<const runtime::Plan> plan;
  const WeightSource* weights = nullptr;  // must outlive the pipeline
  std::string origin;                     // "cache", "built" or "file"
  std::string file;                       // empty when only in memory
  // Where its finished constants are kept between processes, and what they depend on besides the
  // plan's expressions (runtime/constant_cache.h); empty = nowhere.
  std::string constants_file{}, constants_identity{};
  double build_ms = 0;
};
struct WantedPlan {
  std::string component;
  ShapeKey shape;
  bool fp32 = false;  // whatever the precision asked for: another one's result was not finite
};
// Answers for one component and shape; throws when it has none and cannot make one.
using PlanProvider = std::function<PlanSource(const WantedPlan& wanted)>;

struct ComponentsOptions {
  size_t shapes_kept = 4;  // executors per component
  bool profile = false;    // time every call
  bool record = true;      // as runtime::ExecutorOptions
  // prepare() only makes plans, and load_only() frees what it does not name.
  bool one_at_a_time = false;
  // Components that run at the same time where the device can; each has its part of the arena.
  std::vector<std::string> together{};
  // Sees every call of every component once.
  std::function<void(const std::string& component, const runtime::ObservedCall&)> observer{};
  Logger logger;
};

// Executors share one arena (they never run at the same time), and those of one component share its
// constants, so that a new shape costs no second copy of the weights. The device must outlive this.
class Components {
 public:
  Components(backend::Device& device, PlanProvider provider, ComponentsOptions options);

  using Wanted = WantedPlan;
  // Makes executors for all of these; the arena is sized once for the largest. Pointers stay valid
  // until the next call.
  [[nodiscard]] std::vector<runtime::Executor*> prepare(const std::vector<Wanted>& wanted,
                                                        const ProgressCallback& progress);

  // With one_at_a_time: executors for these after everything else was freed. Pointers stay valid
  // until the next call.
  [[nodiscard]] std::vector<runtime::Executor*> load_only(const std::vector<Wanted>& wanted,
                                                          const ProgressCallback& progress);

  struct Use {
    std::string component;
    std::shared_ptr<const runtime::Plan> plan;
    std::string origin, file;
    double build_ms = 0;
  };
  // Of the last prepare().
  [[nodiscard]] const std::vector<Use>& last_uses() const { return last_uses_; }
  // Spent in the last prepare(), with the load_only() calls since.
  [[nodiscard]] double last_build_ms() const { return last_build_ms_; }
  [[nodiscard]] double last_load_ms() const { return last_load_ms_; }

  // Over everything that is held; with one_at_a_time, when it was most.
  [[nodiscard]] runtime::MemoryReport memory() const;
  // Of one component alone, with the arena that its own largest shape needs.
  [[nodiscard]] runtime::MemoryReport memory_of(const std::string& component) const;
  [[nodiscard]] std::map<std::string, std::vector<runtime::CallTime>> times() const;

 private:
  struct Entry {
    Wanted key;
    PlanSource source;
    size_t profile = 0;
    std::unique_ptr<runtime::Executor> executor;  // null while the arena is being replaced
  };
  Entry& find_or_plan(const Wanted& wanted);
  [[nodiscard]] static uint64_t bytes_of(const Entry& entry);
  [[nodiscard]] bool is_beside(const std::string& component) const;
  // Bytes of the arena before a component's part: those of what runs with it and comes later.
  [[nodiscard]] uint64_t arena_offset(const Entry& entry, const std::vector<Entry*>& in_use) const;
  [[nodiscard]] std::vector<runtime::Executor*> load(const std::vector<Entry*>& in_use,
                                                     const ProgressCallback& progress);
  [[nodiscard]] runtime::MemoryReport held() const;
  [[nodiscard]] runtime::MemoryReport held_by(const std::string& component) const;
  // Before something is freed: what was held.
  void remember();
  void grow_arena(uint64_t bytes);
  void forget_old(const std::vector<Entry*>& in_use);

  backend::Device& device_;
  PlanProvider provider_;
  ComponentsOptions options_;
  std::list<Entry> entries_;  // most recently used first
  std::map<std::string, std::shared_ptr<runtime::ConstantStore>> constants_;
  std::shared_ptr<backend::Buffer> arena_;
  std::vector<Use> last_uses_;
  double last_build_ms_ = 0, last_load_ms_ = 0;
  runtime::MemoryReport most_held_;
  std::map<std::string, runtime::MemoryReport> remembered_;  // by component
};

// Index of the plan's profile of this shape, or nullopt.
[[nodiscard]] std::optional<size_t> find_profile(const runtime::Plan& plan, const ShapeKey& shape);
// "batch=1 height=64 width=64".
[[nodiscard]] std::string to_string(const ShapeKey& shape);

}  // namespace halftone::pipeline
