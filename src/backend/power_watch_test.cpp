#include "backend/power_watch.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include <gtest/gtest.h>

namespace halftone::backend {
namespace {

TEST(ClockCounts, MedianIsTheMiddleOne) {
  ClockCounts counts;
  EXPECT_FALSE(counts.median());
  for (const double nothing : {0.0, -5.0, 8192.0, 1e9, std::nan("")}) counts.add(nothing);
  EXPECT_FALSE(counts.median());
  counts.add(1605);
  EXPECT_EQ(counts.median(), 1605);
  counts.add(1980);
  EXPECT_EQ(counts.median(), 1605);
  counts.add(1980);
  EXPECT_EQ(counts.median(), 1980);
  for (const double low : {8191.0, 1.0, 345.0, 345.9}) counts.add(low);
  EXPECT_EQ(counts.median(), 1605);  // of 1, 345, 345, 1605, 1980, 1980, 8191
}

// `reason`: what the record is to say of itself, "" for nothing.
PowerUse use(const EnergyRecord& record, int64_t num_images, const std::string& reason = "") {
  std::string missing;
  const PowerUse result = use_of(record, num_images, missing);
  EXPECT_EQ(missing.empty(), reason.empty()) << missing;
  EXPECT_NE(missing.find(reason), std::string::npos) << missing;
  return result;
}

TEST(EnergyRecord, IsDividedByTimeAndImages) {
  const PowerUse four = use({.begin_j = 1000, .end_j = 2200, .seconds = 2}, 4);
  EXPECT_EQ(four.energy_j_per_image, 300);
  EXPECT_EQ(four.power_w, 600);
  const PowerUse none = use({.begin_j = 1000, .end_j = 2200, .seconds = 2}, 0);
  EXPECT_FALSE(none.energy_j_per_image);
  EXPECT_EQ(none.power_w, 600);
  EXPECT_TRUE(use({.begin_j = 0, .end_j = 1, .seconds = kLeastEnergySeconds}, 1).power_w);
}

TEST(EnergyRecord, SaysWhyItGivesNothing) {
  for (const PowerUse& nothing :
       {use({.begin_j = {}, .end_j = 2200, .seconds = 2}, 4),
        use({.begin_j = {}, .end_j = {}, .seconds = 2}, 4),
        use({.begin_j = 1000, .end_j = {}, .seconds = 2}, 4, "stopped to answer"),
        use({.begin_j = 1000, .end_j = 999, .seconds = 2}, 4, "from 1000 to 999 J"),
        use({.begin_j = 1000, .end_j = 1000, .seconds = 2}, 4, "from 1000 to 1000 J"),
        use({.begin_j = 1000, .end_j = 2200, .seconds = 0.25}, 4, "0.25 s were measured")}) {
    EXPECT_FALSE(nothing.energy_j_per_image);
    EXPECT_FALSE(nothing.power_w);
  }
}

// 50 J a question; clocks grow by 15 MHz a question.
class FakeMeter final : public PowerMeter {
 public:
  [[nodiscard]] std::optional<double> energy_j() const override { return 50.0 * ++energies; }
  [[nodiscard]] std::optional<double> power_limit_w() const override { return 700; }
  [[nodiscard]] std::optional<double> clock_mhz() const override {
    return clock ? std::optional<double>(1500 + 15 * clocks++) : std::nullopt;
  }
  mutable int energies = 0;
  mutable int clocks = 0;
  bool clock = true;
};

void wait(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST(PowerWatch, TellsEnergyClockAndLimit) {
  const FakeMeter meter;
  PowerWatch watch(&meter);
  wait(1010);
  std::string missing;
  const PowerUse use = watch.stop(5, missing);
  EXPECT_EQ(missing, "");
  EXPECT_EQ(meter.energies, 2);  // at both ends
  EXPECT_EQ(use.energy_j_per_image, 10);
  EXPECT_GT(use.power_w.value(), 10);  // less than 50 where the machine was busy otherwise
  EXPECT_LE(use.power_w.value(), 50);
  EXPECT_EQ(use.power_limit_w, 700);
  ASSERT_GE(meter.clocks, 2);
  EXPECT_LE(meter.clocks, 1010 / 50 + 20);
  EXPECT_EQ(use.sm_clock_mhz, 1500 + 15 * ((meter.clocks - 1) / 2));
}

TEST(PowerWatch, ShortOnesTellTheLimitAlone) {
  const FakeMeter meter;
  PowerWatch watch(&meter);
  std::string missing;
  const PowerUse use = watch.stop(1, missing);
  EXPECT_NE(missing, "");
  EXPECT_FALSE(use.energy_j_per_image);
  EXPECT_FALSE(use.power_w);
  EXPECT_EQ(use.power_limit_w, 700);
}

TEST(PowerWatch, ADeviceThatTellsNothingCostsNothing) {
  std::string missing;
  PowerWatch none(nullptr);
  EXPECT_FALSE(none.stop(3, missing).power_limit_w);
  EXPECT_EQ(missing, "");
  FakeMeter meter;
  meter.clock = false;
  PowerWatch watch(&meter);
  wait(120);
  EXPECT_FALSE(watch.stop(1, missing).sm_clock_mhz);
}

// A cancelled run leaves its watch behind without a stop.
TEST(PowerWatch, EndsItsThreadWithoutAStop) {
  const FakeMeter meter;
  { const PowerWatch watch(&meter); }
  const int asked = meter.clocks;
  wait(120);
  EXPECT_EQ(meter.clocks, asked);
}

}  // namespace
}  // namespace halftone::backend
