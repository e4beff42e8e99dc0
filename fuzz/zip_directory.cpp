// The directory of a stored zip archive: every member lies in the file, none overlap.
#include "io/zip_directory.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "halftone/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halftone::io;
  try {
    const auto members =
        read_zip_directory({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    for (const auto& [name, member] : members) {
      if (name.empty() || member.offset > size || member.size > size - member.offset) std::abort();
    }
  } catch (const halftone::Error& error) {
    const bool expected = error.code() == halftone::Errc::kCorruptFile ||
                          error.code() == halftone::Errc::kUnsupported;
    if (!expected) std::abort();
  }
  return 0;
}
