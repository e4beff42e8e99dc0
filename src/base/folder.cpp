#include "base/folder.h"

#include <cerrno>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <stdlib.h>

#include "halftone/error.h"

namespace halftone {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void cannot_make(const std::string& folder, const std::string& why) {
  throw Error(Errc::kIo, fmt::format("{}: cannot make the folder: {}", folder, why),
              {.file = folder});
}

}  // namespace

void make_folders(const fs::path& folder) {
  if (folder.empty()) return;
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (!failed && fs::is_directory(folder, failed)) return;
  cannot_make(folder.string(), failed ? failed.message() : "there is a file of this name");
}

TemporaryFolder::TemporaryFolder() {
  std::error_code failed;
  const fs::path place = fs::temp_directory_path(failed);
  if (failed) cannot_make("TMPDIR", failed.message() + " (TMPDIR names a folder that is there)");
  std::string name = (place / "halftone-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    cannot_make(name, std::error_code(errno, std::generic_category()).message());
  }
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace halftone
