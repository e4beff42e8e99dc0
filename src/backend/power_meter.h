// What a device tells of its power and clock.
#pragma once

#include <optional>

namespace halftone::backend {

// Answers are empty where the device does not tell. One caller at a time, on any thread; never
// throws, never waits for the device's work.
class PowerMeter {
 public:
  virtual ~PowerMeter() = default;
  // Joules since a moment in the past, of the whole board, whoever uses it. Grows in steps of some
  // 0.02 to 0.1 s.
  [[nodiscard]] virtual std::optional<double> energy_j() const = 0;
  // Watts that the board is held to.
  [[nodiscard]] virtual std::optional<double> power_limit_w() const = 0;
  // Of the units that compute, now.
  [[nodiscard]] virtual std::optional<double> clock_mhz() const = 0;
};

}  // namespace halftone::backend
