// NVIDIA's math libraries, loaded at first use: a machine without them still runs plain kernels.
#pragma once

#include <string>
#include <vector>

namespace halftone::backend::cuda {

// "cublaslt", "cudnn", "cudnn_attention" (9.13.1 and newer): those that can be loaded here. They
// become features of the device.
[[nodiscard]] std::vector<std::string> available_libraries();

}  // namespace halftone::backend::cuda
