#include "pipeline/stage_times.h"

#include <algorithm>

namespace halftone::pipeline {

std::vector<StageTime> StageTimer::times() {
  stream_.synchronize();
  std::vector<StageTime> rows;
  for (const Span& span : spans_) {
    auto row = std::ranges::find(rows, span.name, &StageTime::name);
    if (row == rows.end()) row = rows.insert(row, {.name = span.name});
    row->runs += span.runs;
    row->ms += stream_.ms_between(span.first, span.last);
  }
  return rows;
}

}  // namespace halftone::pipeline
