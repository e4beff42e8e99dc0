// A shared library that is loaded when first needed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace halftone::backend::cuda {

class DynamicLibrary {
 public:
  // Tries the names in order, then each in the toolkit's own folder. error() says what failed when
  // nothing could be loaded. The library stays loaded until the process ends.
  explicit DynamicLibrary(const std::vector<std::string>& names);
  [[nodiscard]] bool is_loaded() const { return handle_ != nullptr; }
  [[nodiscard]] const std::string& error() const { return error_; }
  // Throws kUnsupported naming the library when it lacks the symbol.
  template <class F>
  void get(const char* symbol, F& function) const {
    function = reinterpret_cast<F>(address(symbol));
  }
  // Null when the library lacks the symbol.
  template <class F>
  void find(const char* symbol, F& function) const {
    function = reinterpret_cast<F>(find_address(symbol));
  }

 private:
  [[nodiscard]] void* address(const char* symbol) const;
  [[nodiscard]] void* find_address(const char* symbol) const;
  void* handle_ = nullptr;
  std::string name_, error_;
};

}  // namespace halftone::backend::cuda
