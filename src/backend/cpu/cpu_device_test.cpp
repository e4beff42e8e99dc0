#include "backend/cpu/cpu_device.h"

#include <cstring>

#include <gtest/gtest.h>

#include "halftone/error.h"

namespace halftone::backend::cpu {
namespace {

TEST(CpuDevice, DisabledFeaturesTakeThoseAboveThem) {
  CpuOptions options;
  options.disabled_features = {"avx512"};
  const auto narrow = create_cpu_device(options);
  for (const std::string& feature : narrow->info().features) {
    EXPECT_FALSE(feature.starts_with("avx512") || feature.starts_with("amx")) << feature;
  }
  options.disabled_features = {"avx2"};
  EXPECT_TRUE(create_cpu_device(options)->info().features.empty());
  EXPECT_EQ(create_cpu_device(options)->info().arch, "x86-64");
}

TEST(CpuDevice, ThreadsAreAsAskedFor) {
  CpuOptions options;
  options.threads = 3;
  EXPECT_EQ(create_cpu_device(options)->info().num_units, 3);
  EXPECT_GE(create_cpu_device()->info().num_units, 1);
}

TEST(CpuDevice, MemoryIsAlignedAndRefusedWithBothSizes) {
  const auto device = create_cpu_device();
  const auto buffer = device->allocate(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0U);
  EXPECT_EQ(buffer->size(), 100U);
  const float value = 7.0F;
  float back = 0.0F;
  device->upload(buffer->data(), &value, sizeof(value));
  device->download(&back, buffer->data(), sizeof(back));
  EXPECT_EQ(back, 7.0F);
  try {
    static_cast<void>(device->allocate(size_t{1} << 60));
    FAIL() << "allocated an exabyte";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("1152921504606846976"), std::string::npos)
        << error.what();
  }
}

TEST(CpuDevice, EveryOpEndsInTheReference) {
  const auto device = create_cpu_device();
  for (int i = 1; i < static_cast<int>(graph::OpKind::kCount); ++i) {
    const auto op = static_cast<graph::OpKind>(i);
    const Kernel* last = nullptr;
    for (const Kernel* kernel : device->kernels()) {
      if (kernel->op == op) last = kernel;
    }
    ASSERT_NE(last, nullptr) << graph::name_of(op);
    EXPECT_EQ(last->name, "cpu." + std::string(graph::name_of(op)) + ".reference");
    EXPECT_EQ(find_kernel(device->kernels(), last->name), last);
  }
}

}  // namespace
}  // namespace halftone::backend::cpu
