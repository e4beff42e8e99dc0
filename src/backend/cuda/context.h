// What launches share beyond their operands: library handles and measured choices. One a process,
// made with the device.
#pragma once

#include <memory>

#include <cuda_runtime.h>

#include "backend/tuning_cache.h"

namespace halftone::backend::cuda {

struct Context {
  int ordinal = 0;
  int num_sms = 0;
  cudaStream_t stream = nullptr;
  TuningCache tuning{""};
};

// Throws kInternal before a device was created.
[[nodiscard]] Context& context();
void set_context(std::unique_ptr<Context> context);

}  // namespace halftone::backend::cuda
