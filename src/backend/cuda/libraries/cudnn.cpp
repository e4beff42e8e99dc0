#include "backend/cuda/libraries/cudnn.h"

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/context.h"

namespace halftone::backend::cuda {

const DynamicLibrary& Cudnn::library() {
  static const DynamicLibrary kLibrary({"libcudnn.so.9"});
  return kLibrary;
}

size_t Cudnn::version() {
  size_t (*get_version)() = nullptr;
  library().get("cudnnGetVersion", get_version);
  return get_version();
}

const Cudnn& Cudnn::get() {
  static const Cudnn kFunctions = [] {
    const DynamicLibrary& from = library();
    if (!from.is_loaded()) {
      throw Error(Errc::kUnsupported, fmt::format("cuDNN: {}; install cuDNN 9", from.error()));
    }
    Cudnn f{};
    from.get("cudnnCreate", f.create);
    from.get("cudnnGetVersion", f.get_version);
    from.get("cudnnGetErrorString", f.get_error_string);
    from.get("cudnnSetStream", f.set_stream);
    from.get("cudnnBackendCreateDescriptor", f.create_descriptor);
    from.get("cudnnBackendDestroyDescriptor", f.destroy_descriptor);
    from.get("cudnnBackendSetAttribute", f.set_attribute);
    from.get("cudnnBackendGetAttribute", f.get_attribute);
    from.get("cudnnBackendFinalize", f.finalize);
    from.get("cudnnBackendExecute", f.execute);
    const auto need = [&f](int status, std::string_view what) {
      if (status == 0) return;
      throw Error(Errc::kDeviceLost,
                  fmt::format("cuDNN: {}: {}", what, f.get_error_string(status)));
    };
    need(f.create(&f.handle), "creating a handle");
    need(f.set_stream(f.handle, context().stream), "setting the stream");
    return f;
  }();
  return kFunctions;
}

void Cudnn::check(int status, std::string_view what, std::source_location location) {
  if (status == 0) return;
  throw Error(Errc::kDeviceLost, fmt::format("cuDNN: {}: {}", what, get().get_error_string(status)),
              location);
}

}  // namespace halftone::backend::cuda
