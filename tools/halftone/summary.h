// The tables that a person reads after a run.
#pragma once

#include <string>

#include "halftone/report.h"

namespace halftone::cli {

// TensorRT demo's timing table, then speed, memory, load time and seeds.
[[nodiscard]] std::string summary(const GenerateReport& report);
// Which plans ran: component, precision, fingerprint, where from.
[[nodiscard]] std::string plan_lines(const std::vector<PlanUse>& plans);
[[nodiscard]] std::string bench_table(const BenchReport& report);

}  // namespace halftone::cli
