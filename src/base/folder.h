// Making folders.
#pragma once

#include <filesystem>

namespace halftone {

// Makes the folder and those above it; nothing when it is there or `folder` is empty. Throws kIo.
void make_folders(const std::filesystem::path& folder);

// A new folder that no other object, thread or process has, in the system's folder for temporary
// files; removed with what it holds. The constructor throws kIo.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace halftone
