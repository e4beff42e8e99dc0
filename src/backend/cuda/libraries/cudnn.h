// cuDNN's backend (graph) API, loaded at run time. Only what we call is declared here, so that
// building needs no cuDNN; names and values are those of cudnn_graph.h, version 9.
#pragma once

#include <cstdint>
#include <source_location>
#include <string_view>

#include <cuda_runtime.h>

#include "backend/cuda/libraries/dynamic_library.h"

namespace halftone::backend::cuda {

struct Cudnn {
  using Handle = struct cudnnContext*;
  using Descriptor = void*;

  int (*create)(Handle*);
  size_t (*get_version)();
  const char* (*get_error_string)(int);
  int (*set_stream)(Handle, cudaStream_t);
  int (*create_descriptor)(int type, Descriptor*);
  int (*destroy_descriptor)(Descriptor);
  int (*set_attribute)(Descriptor, int name, int type, int64_t count, const void* values);
  int (*get_attribute)(Descriptor, int name, int type, int64_t wanted, int64_t* got, void* values);
  int (*finalize)(Descriptor);
  int (*execute)(Handle, Descriptor plan, Descriptor variant_pack);
  Handle handle = nullptr;

  [[nodiscard]] static const DynamicLibrary& library();
  // 90000 + 100 * minor + patch; the library must be loaded.
  [[nodiscard]] static size_t version();
  // Loads the library and makes the handle at the first call; throws kUnsupported when it cannot.
  [[nodiscard]] static const Cudnn& get();
  static void check(int status, std::string_view what,
                    std::source_location location = std::source_location::current());
};

}  // namespace halftone::backend::cuda
