// Tables of a comparison's page.
#pragma once

#include <string>
#include <vector>

#include "halftone/compare.h"

namespace halftone::workflow {

struct Cell {
  std::string html;
  bool is_text = false;  // left-aligned
};
// `head` cells give the alignment of their column.
struct Table {
  std::vector<Cell> head;
  std::vector<std::vector<std::string>> rows;
  bool last_is_total = false;
};
[[nodiscard]] std::string to_html(const Table& table);

// Latency with speed-ups, static/dynamic/peak memory, plans. Empty when neither side ran.
[[nodiscard]] std::string cost_tables(const CompareReport& report);
[[nodiscard]] std::string prompt_table(const CompareReport& report);

}  // namespace halftone::workflow
