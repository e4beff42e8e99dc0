// Files: guarded reading, whole-or-nothing writing, locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "halftone/error.h"

namespace halftone {

// What identifies the bytes of a file without reading them.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

// A regular file open for reading (O_CLOEXEC, never blocks on a FIFO). Move-only; reads are
// thread-safe. Throws kNotFound when missing, kCorruptFile when it is no regular file,
// kInvalidArgument when permission is denied, kIo otherwise.
class File {
 public:
  explicit File(std::filesystem::path path);
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] uint64_t size() const { return identity_.size; }
  // As it was when opened.
  [[nodiscard]] const FileIdentity& identity() const { return identity_; }
  // Fills `out` from `offset`; a file that has become too short throws kCorruptFile.
  void read(uint64_t offset, std::span<std::byte> out) const;
  // Throws kCorruptFile when size or modification time changed since opening.
  void check_unchanged() const;
  [[nodiscard]] int descriptor() const { return fd_; }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  FileIdentity identity_;
};

// A whole file mapped read-only. A file truncated by others while mapped raises SIGBUS on access:
// use it for files that we write ourselves by rename; read foreign files through File::read.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] const File& file() const { return file_; }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(data_), static_cast<size_t>(file_.size())};
  }

 private:
  File file_;
  void* data_ = nullptr;
};

// The whole file as text; longer than `max_bytes` is kCorruptFile.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path,
                                         uint64_t max_bytes = uint64_t{16} << 20);

// A file that appears under its name whole, on commit(), or not at all: written to a temporary file
// beside it (0600), synchronised, renamed. The destructor removes an uncommitted temporary file, so
// an exception (cancellation included) leaves nothing behind.
class AtomicFile {
 public:
  // The name of a folder, device, FIFO or socket is refused (kInvalidArgument).
  explicit AtomicFile(std::filesystem::path path, unsigned mode = 0644);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void append(std::span<const std::byte> bytes);
  void append(std::string_view text) { append(std::as_bytes(std::span(text))); }
  // Writes at a position; thread-safe, and independent of append().
  void write_at(uint64_t offset, std::span<const std::byte> bytes);
  // Makes the file visible, replacing an older one.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temp_;
  int fd_ = -1;
  unsigned mode_;
  uint64_t end_ = 0;
};

void write_file_atomically(const std::filesystem::path& path, std::string_view text,
                           unsigned mode = 0644);

// An exclusive lock between processes, held until destruction. The lock file stays.
class FileLock {
 public:
  // Waits at most `timeout_ms`; nullopt when another still holds it.
  [[nodiscard]] static std::optional<FileLock> acquire(const std::filesystem::path& path,
                                                       int64_t timeout_ms);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

// Names in a folder, sorted. Throws kNotFound or kIo.
[[nodiscard]] std::vector<std::string> list_folder(const std::filesystem::path& folder);

// True for a path that may come from data: relative, no empty, "." or ".." component, no backslash,
// no NUL or control character, no drive letter.
[[nodiscard]] bool is_safe_relative_path(std::string_view path);

// Path of `root`/`relative`, which must stay inside `fence` once symbolic links are followed
// (fence is root itself when empty). Throws kCorruptFile when it leaves it or is unsafe, kNotFound
// when it does not exist.
[[nodiscard]] std::filesystem::path resolve_inside(const std::filesystem::path& root,
                                                   std::string_view relative,
                                                   const std::filesystem::path& fence = {});

}  // namespace halftone
