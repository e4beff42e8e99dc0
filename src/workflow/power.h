// The power figures of benches: where they come from, how they are written.
#pragma once

#include <memory>
#include <string_view>

#include "halftone/log.h"
#include "halftone/report.h"

#include "backend/backend.h"
#include "base/json.h"

namespace halftone::workflow {

// Null where the device tells nothing; what it does not tell is a debug message.
[[nodiscard]] std::unique_ptr<backend::PowerMeter> open_power_meter(backend::Device& device,
                                                                    const Logger& logger);

// Why figures are left out; nothing where `missing` is empty.
void log_missing_power(const Logger& logger, LogLevel level, std::string_view missing);

// energy_j_per_image, power_w, power_limit_w and sm_clock_mhz, those that are known.
void set_power(Json& row, const PowerUse& power);

}  // namespace halftone::workflow
