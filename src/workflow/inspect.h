// Descriptions of files, as text and as JSON. Only headers are read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "halftone/inspect.h"

#include "base/json.h"
#include "runtime/plan.h"

namespace halftone::workflow {

[[nodiscard]] InspectResult inspect(const InspectOptions& options);

// The plans of a folder that holds no model, as 'build --save' leaves them; of all else none.
[[nodiscard]] std::vector<std::filesystem::path> plans_of(const std::filesystem::path& folder);

// Whether a file was meant to be a plan: by its first bytes or, damaged, by its name.
[[nodiscard]] bool is_meant_as_plan(const std::string& path);

struct PlanDescription {
  std::string text;
  Json json;
};
[[nodiscard]] PlanDescription describe_plan(const runtime::Plan& plan, const std::string& path,
                                            bool verbose);

}  // namespace halftone::workflow
