#include "backend/power_watch.h"

#include <chrono>
#include <numeric>
#include <system_error>

#include <fmt/format.h>

namespace halftone::backend {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kClockPeriod{50};

}  // namespace

void ClockCounts::add(double mhz) {
  if (mhz >= 1 && mhz < static_cast<double>(counts_.size())) ++counts_[static_cast<size_t>(mhz)];
}

std::optional<double> ClockCounts::median() const {
  const uint64_t all = std::accumulate(counts_.begin(), counts_.end(), uint64_t{0});
  uint64_t seen = 0;
  for (size_t mhz = 0; mhz < counts_.size(); ++mhz) {
    seen += counts_[mhz];
    if (all > 0 && 2 * seen >= all) return static_cast<double>(mhz);
  }
  return std::nullopt;
}

PowerUse use_of(const EnergyRecord& record, int64_t num_images, std::string& missing) {
  PowerUse use;
  if (!record.begin_j) return use;  // the device never counted
  if (!record.end_j) {
    missing = "the energy counter stopped to answer";
  } else if (*record.end_j <= *record.begin_j) {
    missing =
        fmt::format("the energy counter went from {} to {} J", *record.begin_j, *record.end_j);
  } else if (record.seconds < kLeastEnergySeconds) {
    missing = fmt::format("{:.2f} s were measured, the energy counter needs {} s", record.seconds,
                          kLeastEnergySeconds);
  } else {
    const double joules = *record.end_j - *record.begin_j;
    use.power_w = joules / record.seconds;
    if (num_images > 0) use.energy_j_per_image = joules / static_cast<double>(num_images);
  }
  return use;
}

PowerWatch::PowerWatch(const PowerMeter* meter) : meter_(meter), begin_(Clock::now()) {
  if (meter_ == nullptr) return;
  record_.begin_j = meter_->energy_j();
  begin_ = Clock::now();
  try {
    thread_ = std::thread([this] { sample_clock(); });
  } catch (const std::system_error&) {  // no thread, no clock
  }
}

PowerWatch::~PowerWatch() { end_thread(); }

void PowerWatch::sample_clock() {
  std::unique_lock lock(mutex_);
  while (!stopping_.wait_for(lock, kClockPeriod, [this] { return stops_; })) {
    if (const auto mhz = meter_->clock_mhz()) clocks_.add(*mhz);
  }
}

void PowerWatch::end_thread() {
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    stops_ = true;
  }
  stopping_.notify_one();
  thread_.join();
}

PowerUse PowerWatch::stop(int64_t num_images, std::string& missing) {
  if (meter_ == nullptr) return {};
  {
    const std::scoped_lock lock(mutex_);
    record_.end_j = meter_->energy_j();
    record_.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  }
  end_thread();
  PowerUse use = use_of(record_, num_images, missing);
  use.power_limit_w = meter_->power_limit_w();
  use.sm_clock_mhz = clocks_.median();
  return use;
}

}  // namespace halftone::backend
