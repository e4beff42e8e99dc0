// The report of a comparison as one HTML file: pictures as data, charts as SVG, no script, nothing
// fetched.
#pragma once

#include <string>

#include "halftone/compare.h"

namespace halftone::workflow {

// Reads the pictures that the report names. `max_pictures`: prompts shown with pictures, worst
// first; 0 = all of them while the page stays below about 100 MB, else the ten worst.
[[nodiscard]] std::string comparison_page(const CompareReport& report, int max_pictures);

// The page's style sheet.
[[nodiscard]] std::string_view page_style();

}  // namespace halftone::workflow
