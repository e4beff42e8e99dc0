// A picture's bytes, and whether a value of it is not finite.
#include <algorithm>
#include <atomic>
#include <bit>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

Support supports_any(const graph::OpDesc& /*desc*/, const DeviceInfo& /*info*/) {
  return Support::yes();
}

// Returns whether all values are finite; without a way out, so that it runs several at a time.
bool convert(const float* x, uint8_t* y, int64_t n) {
  // Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits.
  constexpr float kRound = 12582912.0F;
  constexpr uint32_t kExponent = 0x7f800000U;
  uint32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    bad |= (std::bit_cast<uint32_t>(x[i]) & kExponent) == kExponent ? 1U : 0U;
    const float inside = x[i] > 0.0F ? std::min(x[i], 1.0F) : 0.0F;
    y[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(inside * 255.0F + kRound));
  }
  return bad == 0;
}

std::unique_ptr<Launch> prepare(const graph::OpDesc& /*desc*/, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  auto* flag = operands.outputs[1].as<float>();
  return make_launch([=, threads = info.num_units] {
    constexpr int64_t kElementsATask = 1 << 16;
    const int64_t rows = std::max<int64_t>(1, kElementsATask / std::max<int64_t>(x.size, 1));
    std::atomic<bool> finite = true;
    parallel_for(threads, divide_up(x.count, rows), [&](int64_t task, int) {
      bool all = true;
      for (int64_t row = task * rows; row < std::min(x.count, (task + 1) * rows); ++row) {
        all = convert(reinterpret_cast<const float*>(x.at(row)),
                      reinterpret_cast<uint8_t*>(y.at(row)), x.size) &&
              all;
      }
      if (!all) finite = false;
    });
    *flag = finite ? 0.0F : 1.0F;
  });
}

}  // namespace

const Kernel to_bytes_rows =
    plain_kernel("cpu.to_bytes.rows", graph::OpKind::kToBytes, supports_any, prepare);

}  // namespace halftone::backend::cpu
