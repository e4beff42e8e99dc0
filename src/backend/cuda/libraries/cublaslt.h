// cuBLASLt's functions and the process's handle.
#pragma once

#include <source_location>
#include <string_view>

#include <cublasLt.h>

#include "backend/cuda/libraries/dynamic_library.h"

namespace halftone::backend::cuda {

struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetVersion) get_version;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&cublasLtMatmulAlgoCheck) check_algorithm;
  decltype(&cublasLtMatmulDescInit_internal) init_desc;
  decltype(&cublasLtMatmulDescSetAttribute) set_desc;
  decltype(&cublasLtMatrixLayoutInit_internal) init_layout;
  decltype(&cublasLtMatrixLayoutSetAttribute) set_layout;
  decltype(&cublasLtMatmulPreferenceInit_internal) init_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
  cublasLtHandle_t handle = nullptr;

  [[nodiscard]] static const DynamicLibrary& library();
  // Loads the library and makes the handle at the first call; throws kUnsupported when it cannot.
  [[nodiscard]] static const CublasLt& get();
  static void check(cublasStatus_t status, std::string_view what,
                    std::source_location location = std::source_location::current());
};

}  // namespace halftone::backend::cuda
