#include "runtime/constant_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::runtime {
namespace {

// File: header, then the constants at multiples of 64 bytes, then the table. Little-endian, as the
// machine that wrote it.
constexpr std::array<char, 8> kMagic = {'\x89', 'H', 'T', 'C', 'O', 'N', 'S', '1'};
constexpr uint64_t kAlignment = 64;

struct Header {
  std::array<char, 8> magic = kMagic;
  uint32_t crc = 0;  // of all that follows in the header
  uint32_t table_crc = 0;
  Sha256Digest identity{};
  uint64_t table_offset = 0;
  uint64_t num_entries = 0;
};
static_assert(sizeof(Header) == 64 && sizeof(Header) % kAlignment == 0);

uint32_t crc_of(const Header& header) {
  constexpr size_t kBegin = offsetof(Header, table_crc);
  return crc32c(reinterpret_cast<const std::byte*>(&header) + kBegin, sizeof(Header) - kBegin);
}

}  // namespace

struct ConstantCache::Row {
  Sha256Digest key{};
  uint64_t offset = 0, size = 0;
  uint32_t crc = 0;
  uint32_t reserved = 0;
};
ConstantCache::ConstantCache(std::filesystem::path file, std::string_view identity, Logger logger)
    : file_(std::move(file)), identity_(sha256(identity)), logger_(std::move(logger)) {
  std::error_code failed;
  if (std::filesystem::exists(file_, failed)) open();
  if (source_) return;
  try {
    std::filesystem::create_directories(file_.parent_path(), failed);
    writer_ = std::make_unique<AtomicFile>(file_, 0600);
    end_ = sizeof(Header);
  } catch (const Error& error) {
    give_up(error.what());
  }
}

ConstantCache::~ConstantCache() = default;

void ConstantCache::give_up(std::string_view why) {
  log(logger_, LogLevel::kWarning, "cache",
      fmt::format("{}: {}; weights are computed again at the next start", file_.string(), why));
  writer_.reset();
}

void ConstantCache::open() {
  std::string why;
  try {
    File file(file_);
    why = read_table(file);
    if (why.empty() && !entries_.empty()) source_ = std::make_unique<File>(std::move(file));
  } catch (const Error& error) {
    why = error.what();
  }
  if (why.empty()) return;
  entries_.clear();
  log(logger_, LogLevel::kWarning, "cache",
      fmt::format("{}: {}; it is replaced", file_.string(), why));
}

std::string ConstantCache::read_table(const File& file) {
  Header header;
  if (file.size() < sizeof(Header)) return "is shorter than its header";
  file.read(0, std::as_writable_bytes(std::span(&header, 1)));
  if (header.magic != kMagic || header.crc != crc_of(header)) return "has a damaged header";
  if (header.identity != identity_) return {};
  const uint64_t rest = file.size() - sizeof(Header);
  if (header.num_entries > rest / sizeof(Row) ||
      header.table_offset != file.size() - header.num_entries * sizeof(Row)) {
    return "has a table that does not fit";
  }
  std::vector<Row> table(header.num_entries);
  const auto bytes = std::as_writable_bytes(std::span(table));
  file.read(header.table_offset, bytes);
  if (crc32c(bytes.data(), bytes.size()) != header.table_crc) return "has a damaged table";
  for (const Row& row : table) {
    if (row.offset > header.table_offset || row.size > header.table_offset - row.offset) {
      return "has an entry beyond its end";
    }
    entries_[row.key] = {row.offset, row.size, row.crc};
  }
  return {};
}

bool ConstantCache::holds(const std::string& key, size_t bytes) const {
  const auto found = entries_.find(sha256(key));
  return source_ && found != entries_.end() && found->second.size == bytes;
}

bool ConstantCache::read(const std::string& key, std::span<std::byte> to) {
  check_internal(holds(key, to.size()), "the cache does not hold this constant");
  const Entry& entry = entries_.at(sha256(key));
  source_->read(entry.offset, to);
  if (crc32c(to.data(), to.size()) == entry.crc) {
    ++num_read_;
    return true;
  }
  log(logger_, LogLevel::kWarning, "cache",
      fmt::format("{}: {} bytes at {} are damaged; they are computed again", file_.string(),
                  entry.size, entry.offset));
  return false;
}

void ConstantCache::add(const std::string& key, std::span<const std::byte> bytes) {
  if (!writer_) return;
  try {
    writer_->write_at(end_, bytes);
  } catch (const Error& error) {
    return give_up(error.what());
  }
  added_[sha256(key)] = {end_, bytes.size(), crc32c(bytes.data(), bytes.size())};
  end_ += (bytes.size() + kAlignment - 1) / kAlignment * kAlignment;
}

void ConstantCache::commit() {
  if (!writer_ || added_.empty()) return;
  static_assert(sizeof(Row) == 56);
  std::vector<Row> table;
  for (const auto& [key, entry] : added_) {
    table.push_back({key, entry.offset, entry.size, entry.crc, 0});
  }
  const auto bytes = std::as_bytes(std::span(table));
  Header header;
  header.identity = identity_;
  header.table_offset = end_;
  header.num_entries = table.size();
  header.table_crc = crc32c(bytes.data(), bytes.size());
  header.crc = crc_of(header);
  try {
    writer_->write_at(end_, bytes);
    writer_->write_at(0, std::as_bytes(std::span(&header, 1)));
    writer_->commit();
  } catch (const Error& error) {
    return give_up(error.what());
  }
  writer_.reset();
}

}  // namespace halftone::runtime
