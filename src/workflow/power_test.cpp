// Power figures from the device's meter to what the benches report and write.
#include "workflow/power.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "halftone/kernels.h"
#include "halftone/session.h"

#include "backend/cpu/cpu_device.h"
#include "backend/forwarding_device.h"
#include "workflow/generator.h"
#include "workflow/kernel_bench.h"

namespace halftone::workflow {
namespace {

using Clock = std::chrono::steady_clock;

// 600 J from each question to the next, which takes until `seconds` after the one before.
class FakeMeter final : public backend::PowerMeter {
 public:
  explicit FakeMeter(double seconds) : seconds_(seconds) {}
  [[nodiscard]] std::optional<double> energy_j() const override {
    std::this_thread::sleep_until(next_);
    next_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(seconds_);
    return 600.0 * ++asked_;
  }
  [[nodiscard]] std::optional<double> power_limit_w() const override { return 700; }
  [[nodiscard]] std::optional<double> clock_mhz() const override { return 1755; }

 private:
  std::chrono::duration<double> seconds_;
  mutable Clock::time_point next_ = Clock::now();
  mutable int asked_ = 0;
};

// A CPU that has such a meter, or says why it has none.
class MeteredCpu final : public backend::ForwardingDevice {
 public:
  explicit MeteredCpu(std::optional<double> seconds)
      : ForwardingDevice(backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}})),
        seconds_(seconds) {}
  [[nodiscard]] std::unique_ptr<backend::PowerMeter> open_power_meter(
      std::string& missing) override {
    if (!seconds_) return ForwardingDevice::open_power_meter(missing);
    return std::make_unique<FakeMeter>(*seconds_);
  }

 private:
  std::optional<double> seconds_;
};

struct Message {
  LogLevel level;
  std::string text;
};

Logger keep_in(std::vector<Message>& messages) {
  return [&](LogLevel level, std::string_view /*component*/, std::string_view text) {
    if (text.starts_with("power")) messages.push_back({level, std::string(text)});
  };
}

BenchReport bench_tiny(std::optional<double> seconds, std::vector<Message>& messages) {
  MeteredCpu device(seconds);
  SessionOptions session;
  session.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
  session.precision = Precision::kF32;
  session.logger = keep_in(messages);
  BenchOptions options{.generate = {}, .warmup = 1, .iterations = 2, .profile = false};
  options.generate.prompt = "a cat";
  options.generate.width = options.generate.height = 64;
  options.generate.steps = 1;
  options.generate.batch_size = 3;
  options.generate.seed = 5;
  return Generator(device, session).bench(options);
}

Json first_line(const std::string& lines) {
  return parse_json(lines.substr(0, lines.find('\n')), "lines");
}

TEST(Power, OfABenchIsWrittenByImage) {
  std::vector<Message> messages;
  const BenchReport report = bench_tiny(1.1, messages);
  EXPECT_TRUE(messages.empty()) << messages.front().text;
  EXPECT_EQ(report.power.energy_j_per_image, 100);  // 600 J for 2 runs of 3 images
  ASSERT_TRUE(report.power.power_w);
  EXPECT_LE(*report.power.power_w, 600);
  const Json row = first_line(to_json_lines(report));
  EXPECT_EQ(row.find("energy_j_per_image")->if_number(), 100);
  EXPECT_EQ(row.find("power_w")->if_number(), report.power.power_w);
  EXPECT_EQ(row.find("power_limit_w")->if_number(), 700);
}

TEST(Power, OfATooShortBenchIsLeftOutWithAWord) {
  std::vector<Message> messages;
  const BenchReport report = bench_tiny(0.0, messages);
  if (report.total_ms.median > 400) GTEST_SKIP() << "the runs were long enough";
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages.front().level, LogLevel::kInfo);
  EXPECT_NE(messages.front().text.find("were measured"), std::string::npos);
  const Json row = first_line(to_json_lines(report));
  EXPECT_EQ(row.find("energy_j_per_image"), nullptr);
  EXPECT_EQ(row.find("power_w"), nullptr);
  EXPECT_EQ(row.find("power_limit_w")->if_number(), 700);
}

TEST(Power, OfADeviceWithoutAMeterIsAbsent) {
  std::vector<Message> messages;
  const Json row = first_line(to_json_lines(bench_tiny({}, messages)));
  for (const char* key : {"energy_j_per_image", "power_w", "power_limit_w", "sm_clock_mhz"}) {
    EXPECT_EQ(row.find(key), nullptr) << key;
  }
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages.front().level, LogLevel::kDebug);
}

TEST(Power, OfKernelsIsAskedWhereTheyAreSustained) {
  MeteredCpu device(1.1);
  std::vector<Message> messages;
  KernelBenchOptions options{.network = "turbo-512-b1",
                             .filter = "quantize 256x5120",
                             .dtypes = {"i8"},
                             .iterations = 1,
                             .sustain_s = 0.2,
                             .logger = keep_in(messages)};
  const KernelBenchReport report = bench_kernels(device, options);
  ASSERT_FALSE(report.kernels.empty());
  EXPECT_TRUE(messages.empty()) << messages.front().text;
  for (const KernelTime& row : report.kernels) {
    EXPECT_GT(row.us, 0);
    EXPECT_EQ(row.power.sm_clock_mhz, 1755);
    EXPECT_TRUE(row.power.power_w);
    EXPECT_FALSE(row.power.energy_j_per_image);
  }
  options.sustain_s = 0;
  const KernelBenchReport cool = bench_kernels(device, options);
  EXPECT_FALSE(cool.kernels.front().power.power_limit_w);
}

TEST(Power, KnownFiguresAloneAreSet) {
  Json row = Json::object();
  set_power(row, {});
  EXPECT_EQ(row, Json::object());
  set_power(
      row,
      {.energy_j_per_image = {}, .power_w = 656.5, .power_limit_w = {}, .sm_clock_mhz = 1741.0});
  EXPECT_EQ(row, Json::object({{"power_w", 656.5}, {"sm_clock_mhz", 1741.0}}));
}

}  // namespace
}  // namespace halftone::workflow
