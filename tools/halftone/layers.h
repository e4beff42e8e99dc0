// The table of a recipe's layers as text.
#pragma once

#include <string>

#include "halftone/quantize.h"

namespace halftone::cli {

[[nodiscard]] std::string layer_table(const QuantizeReport& report);
// Name, counts and sizes.
[[nodiscard]] std::string layer_summary(const QuantizeReport& report);

}  // namespace halftone::cli
