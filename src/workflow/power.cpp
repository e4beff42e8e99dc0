#include "workflow/power.h"

#include <string>

namespace halftone::workflow {

std::unique_ptr<backend::PowerMeter> open_power_meter(backend::Device& device,
                                                      const Logger& logger) {
  std::string missing;
  auto meter = device.open_power_meter(missing);
  log_missing_power(logger, LogLevel::kDebug, missing);
  return meter;
}

void log_missing_power(const Logger& logger, LogLevel level, std::string_view missing) {
  if (missing.empty()) return;
  log(logger, level, "bench", "power figures are left out: " + std::string(missing));
}

void set_power(Json& row, const PowerUse& power) {
  const auto set_known = [&](const char* key, std::optional<double> value) {
    if (value) row.set(key, *value);
  };
  set_known("energy_j_per_image", power.energy_j_per_image);
  set_known("power_w", power.power_w);
  set_known("power_limit_w", power.power_limit_w);
  set_known("sm_clock_mhz", power.sm_clock_mhz);
}

}  // namespace halftone::workflow
