#include "base/file.h"

#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/folder.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

class FileTest : public ::testing::Test {
 protected:
  fs::path put(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  static void expect_error(const auto& action, Errc code, std::string_view substring) {
    try {
      action();
      ADD_FAILURE() << "no error, wanted: " << substring;
    } catch (const Error& e) {
      EXPECT_EQ(to_string(e.code()), to_string(code)) << e.what();
      EXPECT_NE(std::string(e.what()).find(substring), std::string::npos) << e.what();
    }
  }
  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
};

TEST_F(FileTest, ReadsRangesAndWhole) {
  const fs::path path = put("a", "hello world");
  const File file(path);
  std::string out(5, '\0');
  file.read(6, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "world");
  EXPECT_EQ(read_text_file(path), "hello world");
  const MappedFile map(path);
  EXPECT_EQ(map.bytes().size(), 11U);
  EXPECT_EQ(static_cast<char>(map.bytes()[4]), 'o');
  EXPECT_TRUE(MappedFile(put("empty", "")).bytes().empty());
  expect_error([&] { (void)read_text_file(path, 10); }, Errc::kCorruptFile, "the limit");
}

TEST_F(FileTest, OnlyRegularFiles) {
  expect_error([&] { File f(folder_ / "none"); }, Errc::kNotFound, "cannot open");
  expect_error([&] { File f(folder_); }, Errc::kCorruptFile, "is a folder");
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  expect_error([&] { File f(folder_ / "fifo"); }, Errc::kCorruptFile, "is a FIFO");
  expect_error([&] { File f("/dev/zero"); }, Errc::kCorruptFile, "is a device");
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (folder_ / "s").string().copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  expect_error([&] { File f(folder_ / "s"); }, Errc::kCorruptFile, "wanted a regular file");
  ::close(fd);
}

TEST_F(FileTest, NoticesShrinkingAndReplacement) {
  const fs::path path = put("a", std::string(100, 'x'));
  const File file(path);
  EXPECT_NO_THROW(file.check_unchanged());
  fs::resize_file(path, 10);
  std::string out(50, '\0');
  expect_error([&] { file.read(0, std::as_writable_bytes(std::span(out))); }, Errc::kCorruptFile,
               "ends at byte 10");
  expect_error([&] { file.check_unchanged(); }, Errc::kCorruptFile, "changed while");
}

TEST_F(FileTest, AtomicFileIsWholeOrNothing) {
  const fs::path path = put("out", "old");
  try {
    AtomicFile file(path);
    file.append("half");
    throw std::runtime_error("cancelled");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(list_folder(folder_), std::vector<std::string>{"out"});
  AtomicFile file(path, 0640);
  file.write_at(2, std::as_bytes(std::span(std::string_view("cd"))));
  file.append("ab");
  EXPECT_EQ(read_text_file(path), "old");
  file.commit();
  EXPECT_EQ(read_text_file(path), "abcd");
  EXPECT_EQ(list_folder(folder_), std::vector<std::string>{"out"});
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777U, 0640U);
  expect_error([&] { write_file_atomically(folder_ / "no" / "f", "x"); }, Errc::kIo,
               "cannot create");
  expect_error([&] { write_file_atomically("/dev/full/x", "x"); }, Errc::kIo, "cannot create");
  make_folders(folder_ / "a" / "b");
  make_folders(folder_ / "a" / "b");
  write_file_atomically(folder_ / "a" / "b" / "f", "x");
  expect_error([&] { make_folders(folder_ / "a" / "b" / "f"); }, Errc::kIo, "cannot make");
  expect_error([&] { make_folders("/proc/halftone/x"); }, Errc::kIo, "cannot make");
}

// Renaming over /dev/null would end more than this program.
TEST_F(FileTest, AtomicFileReplacesRegularFilesOnly) {
  const fs::path fifo = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_error([&] { AtomicFile f(fifo); }, Errc::kInvalidArgument, "is a FIFO");
  expect_error([&] { AtomicFile f("/dev/null"); }, Errc::kInvalidArgument, "is a device");
  expect_error([&] { AtomicFile f(folder_); }, Errc::kInvalidArgument, "is a folder");
  EXPECT_EQ(list_folder(folder_), std::vector<std::string>{"fifo"});
  EXPECT_TRUE(fs::is_fifo(fifo));
  put("old", "old");
  fs::create_symlink("old", folder_ / "link");
  write_file_atomically(folder_ / "link", "new");
  EXPECT_EQ(read_text_file(folder_ / "link"), "new");
}

TEST_F(FileTest, LockExcludesAndTimesOut) {
  const fs::path path = folder_ / "k.lock";
  auto first = FileLock::acquire(path, 0);
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(FileLock::acquire(path, 30).has_value());
  first.reset();
  EXPECT_TRUE(FileLock::acquire(path, 0).has_value());
  expect_error([&] { (void)FileLock::acquire(folder_, 0); }, Errc::kIo, "lock file");
}

TEST_F(FileTest, PathsFromData) {
  for (const char* good : {"a", "a/b.safetensors", "..a", "a..b/c"}) {
    EXPECT_TRUE(is_safe_relative_path(good)) << good;
  }
  for (const char* bad :
       {"", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a/", "a\\b", "C:x", "a\nb"}) {
    EXPECT_FALSE(is_safe_relative_path(bad)) << bad;
  }
  EXPECT_FALSE(is_safe_relative_path(std::string_view("a\0b", 3)));
}

TEST_F(FileTest, SymbolicLinksStayInside) {
  fs::create_directory(folder_ / "root");
  put("root/real", "x");
  put("outside", "y");
  fs::create_symlink("real", folder_ / "root" / "inner");
  fs::create_symlink("../outside", folder_ / "root" / "outer");
  fs::create_symlink("gone", folder_ / "root" / "dangling");
  EXPECT_NO_THROW((void)resolve_inside(folder_ / "root", "inner"));
  EXPECT_NO_THROW((void)resolve_inside(folder_ / "root", "outer", folder_));
  expect_error([&] { (void)resolve_inside(folder_ / "root", "outer"); }, Errc::kCorruptFile,
               "outside of");
  expect_error([&] { (void)resolve_inside(folder_ / "root", "dangling"); }, Errc::kNotFound,
               "cannot open");
  expect_error([&] { (void)resolve_inside(folder_ / "root", "../outside"); }, Errc::kCorruptFile,
               "unsafe path");
}

TEST(TemporaryFolderTest, IsNobodyElsesAndGoesWithWhatItHolds) {
  fs::path path;
  {
    const TemporaryFolder one, other;
    path = one.path();
    EXPECT_NE(path, other.path());
    EXPECT_TRUE(fs::is_empty(path));
    fs::create_directories(path / "inner");
    std::ofstream(path / "inner" / "file") << "text";
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(TemporaryFolderTest, SaysWhatIsWrongWithThePlace) {
  const char* before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("TMPDIR", "/nowhere/at/all", 1);
  try {
    const TemporaryFolder folder;
    ADD_FAILURE() << folder.path();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kIo);
    EXPECT_NE(std::string(error.what()).find("TMPDIR"), std::string::npos) << error.what();
  }
  if (before == nullptr) {
    ::unsetenv("TMPDIR");
  } else {
    ::setenv("TMPDIR", kept.c_str(), 1);
  }
}

}  // namespace
}  // namespace halftone
