// Making folders.
#pragma once

#include <filesystem>

namespace halftone {

// Makes the folder and those above it; nothing when it is there or `folder` is empty. Throws kIo.
void make_folders(const std::filesystem::path& folder);

}  // namespace halftone
