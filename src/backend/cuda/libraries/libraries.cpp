#include "backend/cuda/libraries/libraries.h"

#include "backend/cuda/libraries/cublaslt.h"
#include "backend/cuda/libraries/cudnn.h"

namespace halftone::backend::cuda {

std::vector<std::string> available_libraries() {
  std::vector<std::string> names;
  if (CublasLt::library().is_loaded()) names.emplace_back("cublaslt");
  if (Cudnn::library().is_loaded()) {
    names.emplace_back("cudnn");
    constexpr size_t kOwnAttention = 91301;
    if (Cudnn::version() >= kOwnAttention) names.emplace_back("cudnn_attention");
  }
  return names;
}

}  // namespace halftone::backend::cuda
