// The largest of each window, channel by channel.
#include <algorithm>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

Support supports_max_pool(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  return desc.output().dtype == DType::kF32 ? Support::yes() : Support::no("x is f32 only");
}

std::unique_ptr<Launch> prepare_max_pool(const graph::OpDesc& desc, const DeviceInfo& info,
                                         Config /*config*/, const Operands& operands) {
  const auto op = desc.as<graph::MaxPool>();
  const Shape from = desc.inputs[0].type.shape, to = desc.output().shape;
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  return make_launch([=, threads = info.num_units] {
    parallel_for(threads, to[0] * to[1], [&](int64_t line, int) {
      const int64_t first = (line / to[1] * from[1] + line % to[1] * op.stride) * from[2];
      for (int64_t j = 0; j < to[2]; ++j) {
        auto* best = reinterpret_cast<float*>(y.at(line * to[2] + j));
        for (int64_t i = 0; i < op.size * op.size; ++i) {
          const int64_t row = first + i / op.size * from[2] + j * op.stride + i % op.size;
          const auto* value = reinterpret_cast<const float*>(x.at(row));
          if (i == 0) {
            std::copy_n(value, y.size, best);
            continue;
          }
          for (int64_t c = 0; c < y.size; ++c) {
            // False for a NaN already there, true for a new one.
            best[c] = best[c] >= value[c] || best[c] != best[c] ? best[c] : value[c];
          }
        }
      }
    });
  });
}

}  // namespace

const Kernel max_pool_rows =
    plain_kernel("cpu.max_pool.rows", graph::OpKind::kMaxPool, supports_max_pool, prepare_max_pool);

}  // namespace halftone::backend::cpu
