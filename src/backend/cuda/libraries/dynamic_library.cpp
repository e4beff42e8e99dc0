#include "backend/cuda/libraries/dynamic_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::backend::cuda {

DynamicLibrary::DynamicLibrary(const std::vector<std::string>& names) {
  for (const std::string_view folder : {"", "/usr/local/cuda/lib64/"}) {
    for (const std::string& name : names) {
      name_ = std::string(folder) + name;
      handle_ = dlopen(name_.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle_ != nullptr) return;
      if (error_.empty()) error_ = dlerror();
    }
  }
}

void* DynamicLibrary::find_address(const char* symbol) const {
  return handle_ == nullptr ? nullptr : dlsym(handle_, symbol);
}

void* DynamicLibrary::address(const char* symbol) const {
  void* found = find_address(symbol);
  if (found == nullptr) {
    throw Error(Errc::kUnsupported,
                fmt::format("{}: has no function {}; install a newer version", name_, symbol));
  }
  return found;
}

}  // namespace halftone::backend::cuda
