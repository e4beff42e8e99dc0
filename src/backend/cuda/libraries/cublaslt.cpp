#include "backend/cuda/libraries/cublaslt.h"

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::backend::cuda {

const DynamicLibrary& CublasLt::library() {
  static const DynamicLibrary kLibrary({fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR)});
  return kLibrary;
}

const CublasLt& CublasLt::get() {
  static const CublasLt kFunctions = [] {
    const DynamicLibrary& from = library();
    if (!from.is_loaded()) {
      throw Error(Errc::kUnsupported, fmt::format("cuBLASLt: {}; install libcublas of CUDA {}",
                                                  from.error(), CUBLAS_VER_MAJOR));
    }
    CublasLt f{};
    from.get("cublasLtCreate", f.create);
    from.get("cublasLtGetVersion", f.get_version);
    from.get("cublasLtMatmul", f.matmul);
    from.get("cublasLtMatmulAlgoGetHeuristic", f.get_heuristic);
    from.get("cublasLtMatmulAlgoCheck", f.check_algorithm);
    from.get("cublasLtMatmulDescInit_internal", f.init_desc);
    from.get("cublasLtMatmulDescSetAttribute", f.set_desc);
    from.get("cublasLtMatrixLayoutInit_internal", f.init_layout);
    from.get("cublasLtMatrixLayoutSetAttribute", f.set_layout);
    from.get("cublasLtMatmulPreferenceInit_internal", f.init_preference);
    from.get("cublasLtMatmulPreferenceSetAttribute", f.set_preference);
    check(f.create(&f.handle), "creating a handle");
    return f;
  }();
  return kFunctions;
}

void CublasLt::check(cublasStatus_t status, std::string_view what, std::source_location location) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(Errc::kDeviceLost,
              fmt::format("cuBLASLt: {}: status {}", what, static_cast<int>(status)), location);
}

}  // namespace halftone::backend::cuda
