#include "backend/cuda/hopper/tensor_map.h"

#include <array>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/error.h"

namespace halftone::backend::cuda::hopper {
namespace {

// The driver's encoders through the runtime, so that nothing links to libcuda.
template <class Function>
Function driver_function(const char* name) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &found), name);
  if (found != cudaDriverEntryPointSuccess || address == nullptr) {
    throw Error(Errc::kDeviceLost,
                fmt::format("cuda: the driver has no {}; install driver 525 or newer", name));
  }
  return reinterpret_cast<Function>(address);
}

void check_encoded(CUresult code, const char* what) {
  if (code != CUDA_SUCCESS) {
    throw Error(Errc::kInternal,
                fmt::format("cuda: {}: the driver refused the description (code {})", what,
                            static_cast<int>(code)));
  }
}

CUtensorMapDataType data_type(Element element) {
  switch (element) {
    case Element::kF16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case Element::kBF16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case Element::kF32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case Element::kS8:
    case Element::kE4M3:
      break;
  }
  return CU_TENSOR_MAP_DATA_TYPE_UINT8;
}

CUtensorMapSwizzle swizzle_of(int bytes) {
  switch (bytes) {
    case 128:
      return CU_TENSOR_MAP_SWIZZLE_128B;
    case 64:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case 32:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    default:
      return CU_TENSOR_MAP_SWIZZLE_NONE;
  }
}

}  // namespace

CUtensorMap tiled_map(Element element, const void* data, std::span<const uint64_t> sizes,
                      std::span<const uint64_t> pitches, std::span<const uint32_t> box,
                      int swizzle) {
  static const auto kEncode =
      driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  constexpr std::array<uint32_t, 5> kSteps = {1, 1, 1, 1, 1};
  CUtensorMap map;
  check_encoded(kEncode(&map, data_type(element), static_cast<uint32_t>(sizes.size()),
                        const_cast<void*>(data), sizes.data(), pitches.data(), box.data(),
                        kSteps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle_of(swizzle),
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                "a tiled tensor");
  return map;
}

CUtensorMap im2col_map(Element element, const void* data, const Im2colView& view, int swizzle) {
  static const auto kEncode =
      driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const std::array<uint64_t, 4> sizes = {view.c, view.w, view.h, view.n};
  const std::array<uint64_t, 3> pitches = {view.pixel_pitch, view.pixel_pitch * view.w,
                                           view.pixel_pitch * view.w * view.h};
  // The first tap of output pixel o is at input o * stride - pad; the corners are the first and
  // last such positions, counted from the input's first and last pixel.
  const auto last = [&](uint64_t out, uint64_t in) {
    return static_cast<int>(out - 1) * view.stride - view.pad - static_cast<int>(in - 1);
  };
  const std::array<int, 2> lower = {-view.pad, -view.pad};
  const std::array<int, 2> upper = {last(view.out_w, view.w), last(view.out_h, view.h)};
  const auto stride = static_cast<uint32_t>(view.stride);
  const std::array<uint32_t, 4> steps = {1, stride, stride, 1};
  CUtensorMap map;
  check_encoded(kEncode(&map, data_type(element), 4, const_cast<void*>(data), sizes.data(),
                        pitches.data(), lower.data(), upper.data(), view.channels, view.pixels,
                        steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle_of(swizzle),
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                "an image");
  // Drivers up to 13.1 set a bit that breaks im2col loads of tensors smaller than 128 KiB.
  static const int kDriver = [] {
    int version = 0;
    check(cudaDriverGetVersion(&version), "asking for the driver's version");
    return version;
  }();
  if (kDriver <= 13010 && view.n * view.h * view.w * view.pixel_pitch < 131072) {
    reinterpret_cast<uint64_t*>(&map)[1] &= ~(uint64_t{1} << 21);
  }
  return map;
}

}  // namespace halftone::backend::cuda::hopper
