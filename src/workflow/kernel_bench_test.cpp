#include "workflow/kernel_bench.h"

#include <chrono>
#include <cmath>
#include <new>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "backend/forwarding_device.h"
#include "graph/cost.h"
#include "workflow/kernel_shapes.h"

namespace halftone::workflow {
namespace {

TEST(KernelShapes, AreWhatTheNetworksCount) {
  // Products of one SDXL step at 1024x1024 with guidance without what is left out here: 1x1
  // shortcuts, strided and enlarging convolutions, text keys and values (13.4 TFLOP with them).
  double flop = 0;
  for (const KernelShape& shape : kernel_shapes()) {
    if (shape.network != "sdxl-1024-b2") continue;
    const double calls = shape.calls;
    const auto n = [](int64_t v) { return static_cast<double>(v); };
    if (shape.kind == KernelShape::Kind::kConv) {
      flop += calls * 2 * n(shape.batch) * n(shape.size * shape.size) * 9 * n(shape.in * shape.out);
    } else if (shape.kind == KernelShape::Kind::kAttention) {
      flop +=
          calls * 4 * n(shape.batch * shape.heads * shape.width) * n(shape.rows) * n(shape.keys);
    } else {  // others have no outputs
      flop += calls * 2 * n(shape.rows) * n(shape.out) * n(shape.in);
    }
  }
  EXPECT_NEAR(flop * 1e-12, 12.7, 0.2);
}

TEST(KernelShapes, HaveTypesThatFit) {
  for (const KernelShape& shape : kernel_shapes()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8, DType::kF8E4M3}) {
      if (!shape.takes(dtype)) continue;
      EXPECT_NO_THROW(static_cast<void>(infer_types(shape.attrs(dtype), shape.operands(dtype))))
          << shape.text();
    }
  }
}

TEST(KernelShapes, OfSeveralImagesHaveRowsOrImagesInProportion) {
  for (const KernelShape& shape : kernel_shapes()) {
    const DType dtype = shape.takes(DType::kF16) ? DType::kF16 : DType::kI8;
    const auto flop = [&](const KernelShape& s) {
      const auto operands = s.operands(dtype);
      return graph::flop_of({s.attrs(dtype), operands, infer_outputs(s.attrs(dtype), operands)});
    };
    const KernelShape eight = shape.of_images(8);
    const auto bytes_of_x = [&](const KernelShape& s) {
      return s.operands(dtype).front().type.num_bytes();
    };
    EXPECT_EQ(flop(eight), 8 * flop(shape)) << shape.text();  // norms have none
    EXPECT_EQ(bytes_of_x(eight), 8 * bytes_of_x(shape)) << shape.text();
    EXPECT_NE(eight.text(), shape.text());
    EXPECT_EQ(eight.calls, shape.calls);
  }
}

TEST(KernelBench, TimesEveryKernelOfAShape) {
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  const KernelBenchReport report = bench_kernels(*device, {.network = "turbo-512-b1",
                                                           .filter = "attention 1x20x256",
                                                           .dtypes = {"f32"},
                                                           .iterations = 5});
  ASSERT_FALSE(report.kernels.empty());
  EXPECT_EQ(report.kernels.front().shape, "attention 1x20x256x256 width 64");
  EXPECT_GT(report.kernels.front().p10_us, 0);
  EXPECT_GE(report.kernels.front().us, report.kernels.front().p10_us);
  EXPECT_GE(report.kernels.front().p90_us, report.kernels.front().us);
  EXPECT_GT(report.kernels.front().share, 0);
  EXPECT_GT(report.peaks.gbyte_per_second, 0);
  EXPECT_THROW(static_cast<void>(bench_kernels(*device, {.network = "sdxl"})), Error);
}

TEST(KernelBench, TakesSeveralImages) {
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  KernelBenchOptions options{
      .network = "turbo-512-b1", .filter = "quantize", .dtypes = {"i8"}, .batch_size = 2};
  options.iterations = 1;
  const KernelBenchReport report = bench_kernels(*device, options);
  ASSERT_FALSE(report.kernels.empty());
  EXPECT_EQ(report.kernels.front().shape, "quantize 512x5120");
  EXPECT_EQ(report.batch_size, 2);
  for (const int wrong : {-1, 0, 65}) {
    options.batch_size = wrong;
    EXPECT_THROW(static_cast<void>(bench_kernels(*device, options)), Error) << wrong;
  }
}

// Has no room for one size of buffer, or its host has none.
class FullDevice final : public backend::ForwardingDevice {
 public:
  FullDevice(size_t bytes, bool host)
      : ForwardingDevice(backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}})),
        bytes_(bytes),
        host_(host) {}
  [[nodiscard]] std::unique_ptr<backend::Buffer> allocate(size_t bytes) override {
    if (bytes == bytes_ && host_) throw std::bad_alloc();
    if (bytes == bytes_) throw Error(Errc::kOutOfMemory, "no room");
    return ForwardingDevice::allocate(bytes);
  }

 private:
  size_t bytes_;
  bool host_;
};

// The weight is the second operand: the next kernel must not take the first one for all.
TEST(KernelBench, SaysWhereMemoryIsMissing) {
  for (const bool host : {false, true}) {
    FullDevice device(size_t{1280} * 1280 * 4, host);
    const KernelBenchReport report = bench_kernels(device, {.network = "turbo-512-b1",
                                                            .filter = "linear 256x1280x1280",
                                                            .dtypes = {"f32"},
                                                            .iterations = 1});
    ASSERT_FALSE(report.kernels.empty());
    for (const KernelTime& row : report.kernels) {
      EXPECT_NE(row.problem.find(host ? "host" : "no room"), std::string::npos) << row.problem;
      EXPECT_EQ(row.us, 0);
    }
  }
}

TEST(KernelBench, RunsAKernelForAWhileFirst) {
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  KernelBenchOptions options{.network = "turbo-512-b1",
                             .filter = "quantize 256x5120",
                             .dtypes = {"i8"},
                             .iterations = 1,
                             .sustain_s = 0.2};
  const auto begin = std::chrono::steady_clock::now();
  const KernelBenchReport report = bench_kernels(*device, options);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  ASSERT_FALSE(report.kernels.empty());
  EXPECT_EQ(report.sustain_s, 0.2);
  EXPECT_GE(took.count(), 0.2 * static_cast<double>(report.kernels.size()));
  for (const double wrong : {-1.0, 61.0, std::nan("")}) {
    options.sustain_s = wrong;
    EXPECT_THROW(static_cast<void>(bench_kernels(*device, options)), Error) << wrong;
  }
}

TEST(KernelBench, StopsBetweenSamples) {
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  int asked = 0;
  KernelBenchOptions options{.network = "turbo-512-b1",
                             .filter = "quantize 256x5120",
                             .dtypes = {"i8"},
                             .iterations = 1000000};
  options.progress = [&](const Progress& progress) {
    EXPECT_EQ(progress.stage, "kernels");
    EXPECT_GT(progress.total, progress.done);
    return ++asked < 5;
  };
  try {
    static_cast<void>(bench_kernels(*device, options));
    FAIL() << "was to be cancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kCancelled);
  }
  EXPECT_EQ(asked, 5);
}

// The scalar reference would take minutes for what no kernel of the device serves.
TEST(KernelBench, LeavesOutWhatOnlyTheReferenceTakes) {
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  EXPECT_TRUE(
      bench_kernels(
          *device,
          {.network = "turbo-512-b1-queries", .filter = "", .dtypes = {"f32"}, .iterations = 1})
          .kernels.empty());
}

TEST(KernelBench, TimesNormsByBytes) {
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  const auto bytes_of = [&](const std::string& shape, const std::string& dtype) {
    const KernelBenchReport report = bench_kernels(
        *device, {.network = "turbo-512-b1", .filter = shape, .dtypes = {dtype}, .iterations = 1});
    if (report.kernels.empty()) return 0.0;
    const KernelTime& row = report.kernels.front();
    EXPECT_EQ(row.problem, "");
    EXPECT_NEAR(row.share, row.gbyte_per_second / report.peaks.gbyte_per_second, 1e-9);
    return row.gbyte_per_second * row.us * 1e3;
  };
  EXPECT_NEAR(bytes_of("layer_norm 256x1280", "f16"), 256 * 1280 * 4 + 1280 * 8, 1);
  EXPECT_NEAR(bytes_of("layer_norm 256x1280", "i8"), 256 * 1280 * 3 + 1280 * 8 + 256 * 4, 1);
  EXPECT_NEAR(bytes_of("quantize 256x5120", "i8"), 256 * 5120 * 3 + 256 * 4, 1);
  EXPECT_EQ(bytes_of("quantize 256x5120", "f16"), 0);
}

}  // namespace
}  // namespace halftone::workflow
