// Plans on disk, keyed by fingerprint: written atomically, shared by processes, verified when read.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "halftone/log.h"

#include "runtime/plan_file.h"

namespace halftone::runtime {

class PlanCache {
 public:
  // An empty folder means no cache. The folder is created 0700; one that others may write is
  // refused with a warning and the cache is off.
  explicit PlanCache(std::filesystem::path folder, Logger logger = {});

  struct Found {
    std::shared_ptr<const Plan> plan;
    bool from_cache = false;
    std::filesystem::path file;  // empty when nothing was written
  };
  // The entry of `wanted`, or what `build` makes, stored for the next caller. A corrupt entry is
  // renamed
  // *.corrupt-<time> and rebuilt. Concurrent builders of one key wait for the first (bounded), then
  // read its result. A full or read-only disk costs a warning, not the plan.
  [[nodiscard]] Found get(const Fingerprint& wanted, const std::string& readable_name,
                          const std::function<Plan()>& build);

  // "<readable_name>-<first 8 digits of the hash>.plan"
  [[nodiscard]] static std::string file_name(const Fingerprint& fingerprint,
                                             const std::string& readable_name);

 private:
  std::filesystem::path folder_;
  Logger logger_;
};

}  // namespace halftone::runtime
