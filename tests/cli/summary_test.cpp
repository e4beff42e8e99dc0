// The tables of figures that only some devices have.
#include "summary.h"

#include <gtest/gtest.h>

#include "process.h"

namespace halftone::cli_test {
namespace {

PowerUse all_known() {
  return {.energy_j_per_image = 402.456,
          .power_w = 610.4,
          .power_limit_w = 700.0,
          .sm_clock_mhz = 1605.0};
}

TEST(Summary, PowerIsWhatIsKnown) {
  EXPECT_EQ(cli::power_words(all_known()), "610 W of 700, SM clock 1605 MHz, 402.46 J/image");
  EXPECT_EQ(cli::power_words({}), "");
  PowerUse use = all_known();
  use.power_limit_w = {};
  EXPECT_EQ(cli::power_words(use), "610 W, SM clock 1605 MHz, 402.46 J/image");
  use = all_known();
  use.power_w = use.energy_j_per_image = {};
  EXPECT_EQ(cli::power_words(use), "limit 700 W, SM clock 1605 MHz");
  use.sm_clock_mhz = {};
  EXPECT_EQ(cli::power_words(use), "limit 700 W");
}

TEST(Summary, EnergiesAreComparedWhereBothAreKnown) {
  PowerUse half = all_known();
  half.energy_j_per_image = 201.228;
  EXPECT_EQ(cli::energy_row(all_known(), half),
            "|  Energy/image   |       402.46 J |       201.23 J |    2.00x |\n");
  EXPECT_EQ(cli::energy_row(all_known(), {}), "");
  EXPECT_EQ(cli::energy_row({}, all_known()), "");
}

TEST(Summary, MemoryIsToldByComponent) {
  BenchReport report;
  report.last.memory = {.static_bytes = 5 << 20, .dynamic_bytes = 3 << 20};
  EXPECT_FALSE(contains(cli::bench_table(report), "Of it"));
  report.last.component_memory = {{"unet", 4 << 20, 3 << 19}, {"vae_decoder", 1 << 20, 3 << 20}};
  EXPECT_TRUE(contains(cli::bench_table(report),
                       "static 5.0 MB, dynamic 3.0 MB, peak 0.0 MB\n"
                       "Of it, static + dynamic, MB: unet 4.0 + 1.5, vae_decoder 1.0 + 3.0\n"));
}

TEST(Summary, BenchHasALineOfPowerWhereItIsKnown) {
  BenchReport report;
  EXPECT_FALSE(contains(cli::bench_table(report), "Power"));
  report.power = all_known();
  EXPECT_TRUE(contains(cli::bench_table(report),
                       "it/s\nPower: 610 W of 700, SM clock 1605 MHz, 402.46 J/image\n"));
}

}  // namespace
}  // namespace halftone::cli_test
