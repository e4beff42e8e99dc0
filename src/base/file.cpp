#include "base/file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

std::string shown(const fs::path& path) { return printable(path.string(), 400); }

[[noreturn]] void fail_io(const fs::path& path, std::string_view action, int error) {
  const Errc code = error == ENOENT || error == ENOTDIR ? Errc::kNotFound
                    : error == EACCES || error == EPERM ? Errc::kInvalidArgument
                                                        : Errc::kIo;
  throw Error(code, fmt::format("{}: cannot {}: {}", shown(path), action, reason(error)),
              ErrorDetails{.file = shown(path)});
}

// What cannot be made is no missing model: the system's refusal.
[[noreturn]] void fail_create(const fs::path& path, int error) {
  throw Error(Errc::kIo, fmt::format("{}: cannot create: {}", shown(path), reason(error)),
              ErrorDetails{.file = shown(path)});
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "no regular file";
}

int64_t nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1000000000 + t.tv_nsec; }

FileIdentity identity_of(const struct stat& st) {
  return {.device = st.st_dev,
          .inode = st.st_ino,
          .size = static_cast<uint64_t>(st.st_size),
          .mtime_ns = nanoseconds(st.st_mtim),
          .ctime_ns = nanoseconds(st.st_ctim)};
}

void close_quietly(int fd) {
  if (fd >= 0) ::close(fd);
}

}  // namespace

File::File(fs::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd_ < 0) {
    if (errno == ENXIO) {
      throw Error(
          Errc::kCorruptFile,
          fmt::format("{}: is a socket or device, wanted a regular file", shown(path_)),
          ErrorDetails{
              .file = shown(path_), .got = "a socket or device", .wanted = "a regular file"});
    }
    fail_io(path_, "open", errno);
  }
  struct stat st {};
  if (::fstat(fd_, &st) != 0 || !S_ISREG(st.st_mode)) {
    close_quietly(std::exchange(fd_, -1));
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: is {}, wanted a regular file", shown(path_), kind_of(st.st_mode)),
                ErrorDetails{.file = shown(path_),
                             .got = std::string(kind_of(st.st_mode)),
                             .wanted = "a regular file"});
  }
  identity_ = identity_of(st);
}

File::~File() { close_quietly(fd_); }

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      identity_(other.identity_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(identity_, other.identity_);
  return *this;
}

void File::read(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(path_, fmt::format("read at byte {}", offset), errno);
    if (n == 0) {
      throw Error(Errc::kCorruptFile,
                  fmt::format("{}: ends at byte {}, wanted {} more bytes (size was {} when opened)",
                              shown(path_), offset, out.size(), identity_.size),
                  ErrorDetails{.file = shown(path_), .offset = offset});
    }
    offset += static_cast<uint64_t>(n);
    out = out.subspan(static_cast<size_t>(n));
  }
}

void File::check_unchanged() const {
  struct stat st {};
  if (::fstat(fd_, &st) != 0) fail_io(path_, "stat", errno);
  const FileIdentity now = identity_of(st);
  if (now.size != identity_.size || now.mtime_ns != identity_.mtime_ns) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: changed while it was read (size {} then, {} now); try again",
                            shown(path_), identity_.size, now.size),
                ErrorDetails{.file = shown(path_), .remedy = "try again"});
  }
}

MappedFile::MappedFile(const fs::path& path) : file_(path) {
  if (file_.size() == 0) return;
  void* data = ::mmap(nullptr, static_cast<size_t>(file_.size()), PROT_READ, MAP_PRIVATE,
                      file_.descriptor(), 0);
  if (data == MAP_FAILED) fail_io(path, "map", errno);
  data_ = data;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(file_.size()));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : file_(std::move(other.file_)), data_(std::exchange(other.data_, nullptr)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(data_, other.data_);
  return *this;
}

std::string read_text_file(const fs::path& path, uint64_t max_bytes) {
  const File file(path);
  if (file.size() > max_bytes) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: {} bytes, the limit for such a file is {}", shown(path),
                            file.size(), max_bytes),
                ErrorDetails{.file = shown(path),
                             .got = fmt::format("{} bytes", file.size()),
                             .wanted = fmt::format("at most {} bytes", max_bytes)});
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

AtomicFile::AtomicFile(fs::path path, unsigned mode) : path_(std::move(path)), mode_(mode) {
  // A rename would put a file in the place of a folder's name, a device (/dev/null) or a FIFO.
  struct stat st {};
  if (::lstat(path_.c_str(), &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: cannot replace: is {}, wanted a regular file or none",
                            shown(path_), kind_of(st.st_mode)),
                ErrorDetails{.file = shown(path_),
                             .got = std::string(kind_of(st.st_mode)),
                             .wanted = "a regular file or none"});
  }
  static std::atomic<unsigned> counter{0};  // distinguishes files of this process
  for (int attempt = 0; attempt < 100; ++attempt) {
    temp_ = path_.parent_path() /
            fmt::format(".{}.tmp-{}-{}", path_.filename().string(), ::getpid(), counter++);
    fd_ = ::open(temp_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd_ >= 0 || errno != EEXIST) break;
  }
  if (fd_ < 0) fail_create(path_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close_quietly(fd_);
  ::unlink(temp_.c_str());
}

void AtomicFile::append(std::span<const std::byte> bytes) {
  write_at(end_, bytes);
  end_ += bytes.size();
}

void AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(path_, "write", errno);
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void AtomicFile::commit() {
  if (::fchmod(fd_, mode_) != 0 || ::fsync(fd_) != 0) fail_io(path_, "write", errno);
  if (::rename(temp_.c_str(), path_.c_str()) != 0) fail_io(path_, "replace", errno);
  close_quietly(std::exchange(fd_, -1));
  // The rename is durable once the folder is; a file system that cannot sync folders is no failure.
  const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd >= 0) {
    ::fsync(folder_fd);
    ::close(folder_fd);
  }
}

void write_file_atomically(const fs::path& path, std::string_view text, unsigned mode) {
  AtomicFile file(path, mode);
  file.append(text);
  file.commit();
}

std::optional<FileLock> FileLock::acquire(const fs::path& path, int64_t timeout_ms) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) fail_io(path, "open the lock file", errno);
  FileLock lock(fd);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) fail_io(path, "lock", errno);
    if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return lock;
}

FileLock::~FileLock() { close_quietly(fd_); }
FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

std::vector<std::string> list_folder(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator it(folder, error);
  if (error) fail_io(folder, "list", error.value());
  std::vector<std::string> names;
  for (; it != fs::directory_iterator(); it.increment(error)) {
    if (error) break;
    names.push_back(it->path().filename().string());
  }
  if (error) fail_io(folder, "list", error.value());
  std::ranges::sort(names);
  return names;
}

bool is_safe_relative_path(std::string_view path) {
  if (path.empty() || path.size() > 4096 || path.find('\\') != std::string_view::npos) return false;
  if (path.size() >= 2 && path[1] == ':') return false;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    if (end == path.size()) return true;
    begin = end + 1;
  }
}

fs::path resolve_inside(const fs::path& root, std::string_view relative, const fs::path& fence) {
  if (!is_safe_relative_path(relative)) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: unsafe path '{}', wanted a relative path without '..'",
                            shown(root), printable(relative)));
  }
  std::error_code error;
  const fs::path path = root / fs::path(relative);
  const fs::path target = fs::canonical(path, error);
  if (error) fail_io(path, "open", error.value());
  const fs::path allowed = fs::canonical(fence.empty() ? root : fence, error);
  if (error) fail_io(fence.empty() ? root : fence, "open", error.value());
  const auto [end, unused] =
      std::mismatch(allowed.begin(), allowed.end(), target.begin(), target.end());
  if (end != allowed.end()) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: is a symbolic link to {}, outside of {}",
                                                shown(path), shown(target), shown(allowed)));
  }
  return path;
}

}  // namespace halftone
