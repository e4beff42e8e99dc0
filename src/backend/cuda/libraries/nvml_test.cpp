// The meter over a driver that is made up: functions that are missing, that fail, that fail later.
#include "backend/cuda/libraries/nvml.h"

#include <gtest/gtest.h>

namespace halftone::backend::cuda {
namespace {

constexpr int kNotSupported = 3;

// What the made-up driver does; a code of 0 is success.
struct Driver {
  int init = 0, device = 0, mig = kNotSupported, energy = 0, limit = 0, clock = 0;
  unsigned mig_mode = 0;
  unsigned long long energy_mj = 5'000'000'000'123;  // more than 32 bits hold
  std::string bus_id;
  int sessions = 0;
  int clock_type = -1;
};

Driver& driver() {
  static Driver driver;
  return driver;
}

Nvml table() {
  Nvml nvml;
  nvml.init = [] {
    if (driver().init == 0) ++driver().sessions;
    return driver().init;
  };
  nvml.shutdown = [] { return --driver().sessions; };
  nvml.error_string = [](int code) { return code == kNotSupported ? "Not Supported" : "Error"; };
  nvml.device_by_pci_bus_id = [](const char* id, Nvml::Device* /*device*/) {
    driver().bus_id = id;
    return driver().device;
  };
  nvml.mig_mode = [](Nvml::Device /*device*/, unsigned* current, unsigned* pending) {
    *current = *pending = driver().mig_mode;
    return driver().mig;
  };
  nvml.total_energy_mj = [](Nvml::Device /*device*/, unsigned long long* mj) {
    *mj = driver().energy_mj;
    return driver().energy;
  };
  nvml.power_limit_mw = [](Nvml::Device /*device*/, unsigned* mw) {
    *mw = 700'000;
    return driver().limit;
  };
  nvml.clock_mhz = [](Nvml::Device /*device*/, int type, unsigned* mhz) {
    driver().clock_type = type;
    *mhz = 1980;
    return driver().clock;
  };
  return nvml;
}

class NvmlMeter : public ::testing::Test {
 protected:
  NvmlMeter() { driver() = Driver(); }
  std::unique_ptr<PowerMeter> open(const Nvml& nvml) {
    return open_nvml_meter(nvml, "0000:1b:00.0", missing_);
  }
  std::string missing_ = "of before";
};

TEST_F(NvmlMeter, TellsWattsJoulesAndTheClockOfTheMultiprocessors) {
  const auto meter = open(table());
  ASSERT_NE(meter, nullptr);
  EXPECT_EQ(missing_, "");
  EXPECT_EQ(driver().bus_id, "0000:1b:00.0");
  EXPECT_EQ(meter->energy_j(), 5'000'000'000.123);
  EXPECT_EQ(meter->power_limit_w(), 700);
  EXPECT_EQ(meter->clock_mhz(), 1980);
  EXPECT_EQ(driver().clock_type, 1);  // NVML_CLOCK_SM
}

TEST_F(NvmlMeter, GivesTheLibraryBack) {
  { const auto meter = open(table()); }
  EXPECT_EQ(driver().sessions, 0);
  driver().device = 6;
  EXPECT_EQ(open(table()), nullptr);
  EXPECT_EQ(driver().sessions, 0);
  Nvml nvml = table();
  nvml.shutdown = nullptr;
  { const auto meter = open(nvml); }
}

TEST_F(NvmlMeter, LeavesOutWhatIsMissingOrFails) {
  Nvml nvml = table();
  nvml.total_energy_mj = nullptr;
  driver().limit = kNotSupported;
  const auto meter = open(nvml);
  ASSERT_NE(meter, nullptr);
  EXPECT_EQ(missing_, "energy: the driver is too old; power limit: Not Supported");
  EXPECT_FALSE(meter->energy_j());
  driver().limit = 0;
  EXPECT_FALSE(meter->power_limit_w());  // not asked again
  EXPECT_EQ(meter->clock_mhz(), 1980);
  driver().clock = 999;
  EXPECT_FALSE(meter->clock_mhz());
  driver().clock = 0;
  EXPECT_EQ(meter->clock_mhz(), 1980);  // lost once, not for good
}

TEST_F(NvmlMeter, WithoutAnyAnswerThereIsNone) {
  driver().energy = driver().limit = driver().clock = 4;
  EXPECT_EQ(open(table()), nullptr);
  EXPECT_EQ(missing_, "energy: Error; power limit: Error; clock: Error");
  Nvml nvml = table();
  nvml.error_string = nullptr;
  EXPECT_EQ(open(nvml), nullptr);
  EXPECT_EQ(missing_, "energy: NVML error 4; power limit: NVML error 4; clock: NVML error 4");
  EXPECT_EQ(open(Nvml()), nullptr);
  EXPECT_EQ(missing_, "the driver's NVML is too old");
  EXPECT_EQ(driver().sessions, 0);
}

TEST_F(NvmlMeter, SaysWhyTheDeviceCannotBeAsked) {
  driver().device = kNotSupported;
  EXPECT_EQ(open(table()), nullptr);
  EXPECT_EQ(missing_, "NVML, device 0000:1b:00.0: Not Supported");
  driver().init = kNotSupported;
  EXPECT_EQ(open(table()), nullptr);
  EXPECT_EQ(missing_, "NVML: Not Supported");
}

// The counters of a divided board are of all its parts.
TEST_F(NvmlMeter, RefusesADividedBoard) {
  driver().mig = 0;
  driver().mig_mode = 1;
  EXPECT_EQ(open(table()), nullptr);
  EXPECT_NE(missing_.find("MIG"), std::string::npos) << missing_;
  driver().mig_mode = 0;
  EXPECT_NE(open(table()), nullptr);
  driver().mig_mode = 1;
  Nvml nvml = table();
  nvml.mig_mode = nullptr;  // a driver from before such boards
  EXPECT_NE(open(nvml), nullptr);
}

// Here, whatever driver there is.
TEST(Nvml, IsLoadedOrSaysWhyNot) {
  std::string missing;
  const Nvml nvml = Nvml::load(missing);
  EXPECT_EQ(nvml.init == nullptr, !missing.empty()) << missing;
}

}  // namespace
}  // namespace halftone::backend::cuda
