// The directory of a zip file whose members are stored, not compressed: what torch.save writes.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace halftone::io {

inline constexpr uint64_t kMaxZipMembers = 100'000;

struct ZipMember {
  uint64_t offset = 0;  // of its bytes in the file
  uint64_t size = 0;
};

// Members by name; folders are left out. Reads the central directory (zip64 too) and every local
// header, which must agree with it. Throws kCorruptFile for anything that contradicts itself,
// leaves the file or overlaps, for a second member of one name, for names that are absolute, leave
// their folder or contain '\', and kUnsupported for compressed, encrypted or split archives.
[[nodiscard]] std::map<std::string, ZipMember> read_zip_directory(const File& file);
[[nodiscard]] std::map<std::string, ZipMember> read_zip_directory(std::span<const std::byte> bytes,
                                                                  std::string_view where);

}  // namespace halftone::io
