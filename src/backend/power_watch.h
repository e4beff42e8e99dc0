// What a device drew and at which clock it ran while something was measured.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "halftone/report.h"

#include "backend/power_meter.h"

namespace halftone::backend {

// How often which clock was seen; of fixed size, so that adding is all that a sample costs.
class ClockCounts {
 public:
  // What is no clock, 0 or 8,192 MHz and more, does not count.
  void add(double mhz);
  // The middle one, the lower of two, to 1 MHz; empty when there is none.
  [[nodiscard]] std::optional<double> median() const;

 private:
  std::array<uint32_t, 8192> counts_{};  // by MHz
};

// Readings of a meter at both ends of what was measured.
struct EnergyRecord {
  std::optional<double> begin_j, end_j;
  double seconds = 0;  // between them
};

// Shorter records give no energy: the counter's steps would be more than a tenth of it.
inline constexpr double kLeastEnergySeconds = 1;

// power_w and, of more than 0 images, energy_j_per_image; both empty when the record does not give
// them, `missing` is then why.
[[nodiscard]] PowerUse use_of(const EnergyRecord& record, int64_t num_images, std::string& missing);

// Watches from here to stop(): energy by its counter, the clock by one thread that asks 20 times a
// second.
class PowerWatch {
 public:
  // `meter` outlives the watch and is asked by nobody else meanwhile; null: nothing is known.
  explicit PowerWatch(const PowerMeter* meter);
  ~PowerWatch();
  PowerWatch(const PowerWatch&) = delete;
  PowerWatch& operator=(const PowerWatch&) = delete;
  // Once. As use_of; the clock is empty when less than a twentieth of a second was watched.
  [[nodiscard]] PowerUse stop(int64_t num_images, std::string& missing);

 private:
  void sample_clock();
  void end_thread();

  const PowerMeter* meter_;
  EnergyRecord record_;
  std::chrono::steady_clock::time_point begin_;
  ClockCounts clocks_;
  std::mutex mutex_;  // of the meter, the counts and what follows
  std::condition_variable stopping_;
  bool stops_ = false;
  std::thread thread_;
};

}  // namespace halftone::backend
