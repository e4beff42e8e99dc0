#include "io/zip_directory.h"

#include <algorithm>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::io {
namespace {

constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocator64Signature = 0x07064b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint64_t kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr uint64_t kCentralBytes = 46, kLocalBytes = 30;
constexpr uint64_t kMaxComment = 65535;
constexpr uint32_t kIn64 = 0xffffffff;  // the number is in a zip64 record

// Little-endian numbers of a record; the caller has checked its size.
class Record {
 public:
  explicit Record(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] uint32_t u16(size_t at) const { return static_cast<uint32_t>(number(at, 2)); }
  [[nodiscard]] uint32_t u32(size_t at) const { return static_cast<uint32_t>(number(at, 4)); }
  [[nodiscard]] uint64_t u64(size_t at) const { return number(at, 8); }
  [[nodiscard]] std::string_view text(size_t at, size_t size) const {
    return {reinterpret_cast<const char*>(bytes_.data()) + at, size};
  }
  [[nodiscard]] std::span<const std::byte> part(size_t at, size_t size) const {
    return bytes_.subspan(at, size);
  }

 private:
  [[nodiscard]] uint64_t number(size_t at, size_t size) const {
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(bytes_[at + i]);
    return value;
  }
  std::span<const std::byte> bytes_;
};

bool is_safe(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find('\\') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos || name.find(':') != std::string_view::npos) {
    return false;
  }
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    if (name.substr(begin, end - begin) == "..") return false;
    begin = end + 1;
  }
  return true;
}

// Where the bytes come from.
struct Source {
  std::string where;
  uint64_t size = 0;
  std::function<void(uint64_t offset, std::span<std::byte> out)> read;
};

class Reader {
 public:
  explicit Reader(Source source) : source_(std::move(source)) {}

  std::map<std::string, ZipMember> run() {
    find_end();
    if (directory_.count > kMaxZipMembers) {
      fail(fmt::format("{} members, wanted at most {}", directory_.count, kMaxZipMembers));
    }
    if (directory_.offset > end_ || directory_.size > end_ - directory_.offset) {
      fail("the directory leaves the file");
    }
    const std::vector<std::byte> bytes = read(directory_.offset, directory_.size);
    size_t at = 0;
    for (uint64_t i = 0; i < directory_.count; ++i) at = add_member(bytes, at);
    if (at != bytes.size()) fail("the directory holds more than its members");
    check_overlaps();
    return std::move(members_);
  }

 private:
  struct Directory {
    uint64_t count = 0, size = 0, offset = 0;
  };

  [[noreturn]] void fail(std::string_view what) const {
    throw Error(Errc::kCorruptFile, fmt::format("{}: zip: {}", source_.where, what));
  }
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(Errc::kUnsupported,
                fmt::format("{}: zip: {}; save it again with torch.save", source_.where, what));
  }

  [[nodiscard]] std::vector<std::byte> read(uint64_t offset, uint64_t size) const {
    if (offset > source_.size || size > source_.size - offset) fail("a record leaves the file");
    std::vector<std::byte> bytes(size);
    source_.read(offset, bytes);
    return bytes;
  }

  // The end record is the last one whose comment reaches exactly to the end of the file.
  void find_end() {
    if (source_.size < kEndBytes) fail("too short for a zip archive");
    const uint64_t size = std::min(source_.size, kEndBytes + kMaxComment);
    const std::vector<std::byte> tail = read(source_.size - size, size);
    const Record record(tail);
    for (size_t at = tail.size() - kEndBytes + 1; at-- > 0;) {
      if (record.u32(at) != kEndSignature) continue;
      if (at + kEndBytes + record.u16(at + 20) != tail.size()) continue;
      read_end(Record(record.part(at, kEndBytes)), source_.size - size + at);
      return;
    }
    fail("no end of a central directory; not a zip archive");
  }

  void read_end(const Record& record, uint64_t position) {
    end_ = position;
    if (record.u16(4) != 0 && record.u16(4) != 0xffff) refuse("split over several files");
    directory_ = {record.u16(10), record.u32(12), record.u32(16)};
    const bool large =
        directory_.count == 0xffff || directory_.size == kIn64 || directory_.offset == kIn64;
    if (!large) return;
    if (position < kLocator64Bytes) fail("the zip64 locator is missing");
    const std::vector<std::byte> locator = read(position - kLocator64Bytes, kLocator64Bytes);
    if (Record(locator).u32(0) != kLocator64Signature) fail("the zip64 locator is missing");
    const uint64_t at = Record(locator).u64(8);
    const std::vector<std::byte> bytes = read(at, kEnd64Bytes);
    const Record end(bytes);
    if (end.u32(0) != kEnd64Signature) fail("the zip64 end record is not where it should be");
    end_ = at;
    directory_ = {end.u64(32), end.u64(40), end.u64(48)};
  }

  // The record at `at`; returns where the next one begins.
  size_t add_member(std::span<const std::byte> bytes, size_t at) {
    if (bytes.size() - at < kCentralBytes) fail("the directory is cut short");
    const Record record(bytes.subspan(at, kCentralBytes));
    if (record.u32(0) != kCentralSignature) fail("a directory entry has another signature");
    const size_t name_size = record.u16(28);
    const size_t extra_size = record.u16(30);
    const size_t whole = kCentralBytes + name_size + extra_size + record.u16(32);
    if (bytes.size() - at < whole) fail("the directory is cut short");
    const std::string name(Record(bytes).text(at + kCentralBytes, name_size));
    if (!is_safe(name)) fail(fmt::format("the name '{}' of a member is refused", printable(name)));
    if ((record.u16(8) & 1U) != 0) refuse(fmt::format("'{}' is encrypted", printable(name)));
    if (record.u16(10) != 0) refuse(fmt::format("'{}' is compressed", printable(name)));
    uint64_t packed = record.u32(20);
    uint64_t size = record.u32(24);
    uint64_t header = record.u32(42);
    read_zip64(bytes.subspan(at + kCentralBytes + name_size, extra_size), size, packed, header);
    if (packed != size) fail(fmt::format("'{}' has two sizes", printable(name)));
    if (!name.ends_with('/')) add(name, header, size);
    return at + whole;
  }

  // The zip64 field holds, in this order, those numbers that did not fit.
  void read_zip64(std::span<const std::byte> extra, uint64_t& size, uint64_t& packed,
                  uint64_t& header) const {
    size_t at = 0;
    while (extra.size() - at >= 4) {
      const Record record(extra);
      const size_t field = record.u16(at + 2);
      if (extra.size() - at - 4 < field) fail("an extra field is cut short");
      if (record.u16(at) == 1) {
        size_t from = at + 4;
        for (uint64_t* number : {&size, &packed, &header}) {
          if (*number != kIn64) continue;
          if (at + 4 + field - from < 8) fail("a zip64 field is cut short");
          *number = record.u64(from);
          from += 8;
        }
        return;
      }
      at += 4 + field;
    }
  }

  void add(const std::string& name, uint64_t header, uint64_t size) {
    if (header > end_ || kLocalBytes > end_ - header) fail("a member leaves the file");
    const std::vector<std::byte> bytes = read(header, kLocalBytes);
    const Record local(bytes);
    const size_t name_size = local.u16(26);
    const uint64_t begin = header + kLocalBytes + name_size + local.u16(28);
    if (local.u32(0) != kLocalSignature || local.u16(8) != 0 || (local.u16(6) & 1U) != 0) {
      fail(fmt::format("'{}': its local header contradicts the directory", printable(name)));
    }
    const std::vector<std::byte> local_name = read(header + kLocalBytes, name_size);
    if (Record(local_name).text(0, name_size) != name) {
      fail(fmt::format("'{}': its local header has another name", printable(name)));
    }
    if (begin > end_ || size > end_ - begin) {
      fail(fmt::format("'{}' leaves the file", printable(name)));
    }
    if (!members_.emplace(name, ZipMember{begin, size}).second) {
      fail(fmt::format("'{}' comes twice", printable(name)));
    }
  }

  void check_overlaps() const {
    std::vector<ZipMember> sorted;
    for (const auto& [name, member] : members_) sorted.push_back(member);
    std::ranges::sort(sorted, {}, &ZipMember::offset);
    for (size_t i = 1; i < sorted.size(); ++i) {
      if (sorted[i - 1].offset + sorted[i - 1].size > sorted[i].offset) fail("members overlap");
    }
  }

  static std::string printable(std::string_view name) {
    std::string text;
    for (const char c : name.substr(0, 80)) text += c >= ' ' && c <= '~' ? c : '?';
    return text;
  }

  Source source_;
  uint64_t end_ = 0;  // where the members and the directory must end
  Directory directory_;
  std::map<std::string, ZipMember> members_;
};

}  // namespace

std::map<std::string, ZipMember> read_zip_directory(const File& file) {
  return Reader({file.path().string(), file.size(),
                 [&](uint64_t offset, std::span<std::byte> out) { file.read(offset, out); }})
      .run();
}

std::map<std::string, ZipMember> read_zip_directory(std::span<const std::byte> bytes,
                                                    std::string_view where) {
  return Reader({std::string(where), bytes.size(),
                 [&](uint64_t offset, std::span<std::byte> out) {
                   const auto from = bytes.subspan(offset, out.size());
                   std::ranges::copy(from, out.begin());
                 }})
      .run();
}

}  // namespace halftone::io
