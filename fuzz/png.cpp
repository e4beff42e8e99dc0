// A PNG image with its text chunks.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "halftone/error.h"

#include "io/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halftone::io;
  try {
    const PngImage png = decode_png({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    const auto pixels =
        static_cast<size_t>(png.image.width) * static_cast<size_t>(png.image.height);
    if (png.image.rgb.size() != 3 * pixels) std::abort();
  } catch (const halftone::Error& error) {
    using halftone::Errc;
    if (error.code() != Errc::kCorruptFile && error.code() != Errc::kUnsupported) std::abort();
  }
  return 0;
}
