// The header of a safetensors file, and the maps of single-file names on what it lists.
#include "io/safetensors.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "halftone/error.h"

#include "io/name_maps/name_maps.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halftone::io;
  try {
    const auto header = scan_safetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    for (const SafetensorsEntry& entry : header.tensors) {
      // Every range lies in the file and has the size that dtype and shape ask for.
      if (entry.begin > entry.end || entry.end > size) std::abort();
      if (entry.dtype && entry.type("fuzz").num_bytes() != entry.end - entry.begin) std::abort();
      for (const NameMap* map : name_maps()) (void)map->map(entry.name, {});
    }
  } catch (const halftone::Error& error) {
    if (error.code() != halftone::Errc::kCorruptFile) std::abort();
  }
  return 0;
}
