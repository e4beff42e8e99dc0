#include "workflow/kernel_bench.h"

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "workflow/kernel_shapes.h"

namespace halftone::workflow {
namespace {

TEST(KernelShapes, AreWhatTheNetworksCount) {
  // Products of one SDXL step at 1024x1024 with guidance without what is left out here: 1x1
  // shortcuts, strided and enlarging convolutions, text keys and values (13.4 TFLOP with them).
  double flop = 0;
  for (const KernelShape& shape : kernel_shapes()) {
    if (shape.network != "sdxl-1024-b2") continue;
    for (const DType dtype : {DType::kF16, DType::kI8}) {
      if (shape.kind == KernelShape::Kind::kAttention && dtype == DType::kI8) continue;
      EXPECT_NO_THROW(static_cast<void>(infer_types(shape.attrs(dtype), shape.operands(dtype))))
          << shape.text();
    }
    const double calls = shape.calls;
    const auto n = [](int64_t v) { return static_cast<double>(v); };
    if (shape.kind == KernelShape::Kind::kConv) {
      flop += calls * 2 * n(shape.batch) * n(shape.size * shape.size) * 9 * n(shape.in * shape.out);
    } else if (shape.kind == KernelShape::Kind::kAttention) {
      flop +=
          calls * 4 * n(shape.batch * shape.heads * shape.width) * n(shape.rows) * n(shape.keys);
    } else {
      flop += calls * 2 * n(shape.rows) * n(shape.out) * n(shape.in);
    }
  }
  EXPECT_NEAR(flop * 1e-12, 12.7, 0.2);
}

TEST(KernelBench, TimesEveryKernelOfAShape) {
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  const KernelBenchReport report = bench_kernels(*device, {.network = "turbo-512-b1",
                                                           .filter = "attention 1x20x256",
                                                           .dtypes = {"f32"},
                                                           .iterations = 1});
  ASSERT_FALSE(report.kernels.empty());
  EXPECT_EQ(report.kernels.front().shape, "attention 1x20x256x256 width 64");
  EXPECT_GT(report.kernels.front().us, 0);
  EXPECT_GT(report.kernels.front().share, 0);
  EXPECT_GT(report.peaks.gbyte_per_second, 0);
  EXPECT_THROW(static_cast<void>(bench_kernels(*device, {.network = "sdxl"})), Error);
}

}  // namespace
}  // namespace halftone::workflow
