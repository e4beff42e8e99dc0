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
// "610 W of 700, SM clock 1605 MHz, 402.5 J/image": what is known of it; empty when nothing is.
[[nodiscard]] std::string power_words(const PowerUse& power);
// Row of the table of speed-ups; empty where one of them is not known.
[[nodiscard]] std::string energy_row(const PowerUse& a, const PowerUse& b);

}  // namespace halftone::cli
