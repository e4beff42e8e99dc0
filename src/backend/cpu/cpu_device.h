// The CPU as a Device.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace halftone::backend::cpu {

struct CpuOptions {
  int threads = 0;  // 0 = all cores of the process's affinity mask
  // Instruction sets to leave unused, for tests: "amx", "avx512". Also lowers oneDNN's choice.
  std::vector<std::string> disabled_features;
};

// Reads the processor's features; creates the thread pool. Sets OpenMP's thread count for the
// process. `tuning_file` keeps measured choices; empty = nowhere.
[[nodiscard]] std::unique_ptr<Device> create_cpu_device(const CpuOptions& options = {},
                                                        const std::string& tuning_file = "");

// Libraries the kernels use, with their versions: "oneDNN 2.6.3".
[[nodiscard]] std::string library_versions();

}  // namespace halftone::backend::cpu
