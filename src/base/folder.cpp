#include "base/folder.h"

#include <system_error>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone {

void make_folders(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (!failed && std::filesystem::is_directory(folder, failed)) return;
  throw Error(Errc::kIo,
              fmt::format("{}: cannot make the folder: {}", folder.string(),
                          failed ? failed.message() : "there is a file of this name"),
              {.file = folder.string()});
}

}  // namespace halftone
