#include "backend/cuda/architectures.h"

#include <charconv>

#include <cuda_runtime_api.h>
#include <fmt/format.h>

namespace halftone::backend::cuda {
namespace {

// CMake's list; the build hands it over with commas.
constexpr std::string_view kSeparators = ";,";

bool entry_serves(std::string_view entry, int major, int minor) {
  int number = 0;
  const auto [end, error] = std::from_chars(entry.begin(), entry.end(), number);
  if (error != std::errc()) return false;
  const int own_major = number / 10;
  const int own_minor = number % 10;
  const std::string_view rest(end, static_cast<size_t>(entry.end() - end));
  if (rest.starts_with('a') || rest.starts_with('f')) {
    return major == own_major && minor == own_minor;
  }
  const bool same_family = major == own_major && minor >= own_minor;
  const bool newer = major > own_major || same_family;
  return rest == "-real" ? same_family : newer;
}

}  // namespace

bool has_code_for(std::string_view built, int major, int minor) {
  while (!built.empty()) {
    const size_t end = built.find_first_of(kSeparators);
    if (entry_serves(built.substr(0, end), major, minor)) return true;
    built = end == std::string_view::npos ? std::string_view() : built.substr(end + 1);
  }
  return false;
}

std::string readable_architectures(std::string_view built) {
  std::string text;
  while (!built.empty()) {
    const size_t end = built.find_first_of(kSeparators);
    const std::string_view entry = built.substr(0, end);
    if (!text.empty()) text += ", ";
    text += "sm_";
    text += entry.substr(0, entry.find('-'));
    built = end == std::string_view::npos ? std::string_view() : built.substr(end + 1);
  }
  return text;
}

std::vector<std::string> build_versions() {
  return {fmt::format("CUDA {}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10),
          "GPU code: " + readable_architectures(built_architectures())};
}

std::string_view built_architectures() { return HALFTONE_CUDA_ARCHITECTURES; }

}  // namespace halftone::backend::cuda
