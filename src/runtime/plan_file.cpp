#include "runtime/plan_file.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/hash.h"
#include "runtime/plan_codec.h"

namespace halftone::runtime {
namespace {

constexpr std::array<char, 8> kMagic = {'\x89', 'H', 'T', 'P', 'L', 'A', 'N', '\n'};
constexpr size_t kNumSections = 3;  // head, profiles, literals
constexpr size_t kCrcAt = 12;
constexpr size_t kAfterCrc = 16;
constexpr size_t kTableAt = 32;
constexpr size_t kEntryBytes = 56;
constexpr size_t kHeaderBytes = kTableAt + kNumSections * kEntryBytes;
constexpr uint64_t kMaxPlanBytes = uint64_t{1} << 31;

uint32_t header_crc(std::span<const std::byte> header) {
  const uint32_t first = crc32c(header.data(), kCrcAt);
  return crc32c(header.data() + kAfterCrc, kHeaderBytes - kAfterCrc, first);
}

[[noreturn]] void corrupt(const std::string& origin, const std::string& text) {
  throw Error(Errc::kCorruptFile, fmt::format("{}: {}; run 'halftone build' again", origin, text));
}

struct Section {
  uint64_t offset = 0, size = 0;
};

// The section table, checked: known sections in order, without hole, overlap or rest.
std::array<Section, kNumSections> read_table(std::span<const std::byte> bytes,
                                             const std::string& origin) {
  ByteReader table(bytes.subspan(kTableAt, kNumSections * kEntryBytes), origin);
  std::array<Section, kNumSections> sections;
  uint64_t next = kHeaderBytes;
  for (size_t i = 0; i < kNumSections; ++i) {
    const auto id = table.number<uint32_t>();
    const auto reserved = table.number<uint32_t>();
    sections[i].offset = table.number<uint64_t>();
    sections[i].size = table.number<uint64_t>();
    const auto want = table.take(sizeof(Sha256Digest));
    if (id != i + 1 || reserved != 0) corrupt(origin, fmt::format("section {} is unknown", id));
    if (sections[i].offset != next || sections[i].size > bytes.size() - next) {
      corrupt(origin, fmt::format("section {} at {} of {} bytes does not fit the file's {} bytes",
                                  id, sections[i].offset, sections[i].size, bytes.size()));
    }
    next += sections[i].size;
    const Sha256Digest got = sha256(bytes.subspan(sections[i].offset, sections[i].size));
    if (!std::ranges::equal(std::as_bytes(std::span(got)), want)) {
      corrupt(origin, fmt::format("section {} at byte {} is damaged (its hash differs)", id,
                                  sections[i].offset));
    }
  }
  if (next != bytes.size()) {
    corrupt(origin,
            fmt::format("got {} bytes after the last section, wanted none", bytes.size() - next));
  }
  return sections;
}

void check_header(std::span<const std::byte> bytes, const std::string& origin) {
  if (bytes.size() < kHeaderBytes) {
    corrupt(origin,
            fmt::format("got {} bytes, a plan has at least {}", bytes.size(), kHeaderBytes));
  }
  if (!std::ranges::equal(bytes.first(kMagic.size()), std::as_bytes(std::span(kMagic)))) {
    corrupt(origin, "is no plan file (its first bytes differ)");
  }
  ByteReader header(bytes.subspan(kMagic.size()), origin);
  const auto version = header.number<uint32_t>();
  if (version != kPlanFormatVersion) {
    throw Error(
        Errc::kIncompatiblePlan,
        fmt::format("{}: has plan format {}, this version reads {}; run 'halftone build' again",
                    origin, version, kPlanFormatVersion));
  }
  if (header.number<uint32_t>() != header_crc(bytes)) corrupt(origin, "the header is damaged");
  const auto size = header.number<uint64_t>();
  if (size != bytes.size()) {
    corrupt(origin, fmt::format("got {} bytes, the header says {}", bytes.size(), size));
  }
  if (header.number<uint32_t>() != kNumSections || header.number<uint32_t>() != 0) {
    corrupt(origin, "the header has another number of sections");
  }
}

}  // namespace

std::vector<std::byte> serialize(const Plan& plan) {
  const PlanSections sections = encode(plan);
  const std::array<const std::vector<std::byte>*, kNumSections> parts = {
      &sections.head, &sections.profiles, &sections.literals};
  uint64_t size = kHeaderBytes;
  for (const auto* part : parts) size += part->size();

  ByteWriter out;
  out.bytes(std::as_bytes(std::span(kMagic)));
  out.number(kPlanFormatVersion);
  out.number(uint32_t{0});  // CRC, below
  out.number(size);
  out.number(static_cast<uint32_t>(kNumSections));
  out.number(uint32_t{0});
  uint64_t offset = kHeaderBytes;
  for (size_t i = 0; i < kNumSections; ++i) {
    out.number(static_cast<uint32_t>(i + 1));
    out.number(uint32_t{0});
    out.number(offset);
    out.number(static_cast<uint64_t>(parts[i]->size()));
    const Sha256Digest digest = sha256(std::span<const std::byte>(*parts[i]));
    out.bytes(std::as_bytes(std::span(digest)));
    offset += parts[i]->size();
  }
  std::vector<std::byte> bytes = out.data();
  const uint32_t crc = header_crc(bytes);
  std::memcpy(bytes.data() + kCrcAt, &crc, sizeof(crc));
  bytes.reserve(size);
  for (const auto* part : parts) bytes.insert(bytes.end(), part->begin(), part->end());
  return bytes;
}

Plan deserialize(std::span<const std::byte> bytes, const std::string& origin) {
  check_header(bytes, origin);
  const auto sections = read_table(bytes, origin);
  const auto part = [&](size_t i) { return bytes.subspan(sections[i].offset, sections[i].size); };
  Plan plan = decode(part(0), part(1), part(2), origin);
  check_plan(plan, origin);
  return plan;
}

void save_plan(const Plan& plan, const std::filesystem::path& file) {
  AtomicFile out(file);
  const std::vector<std::byte> bytes = serialize(plan);
  out.append(bytes);
  out.commit();
}

std::shared_ptr<const Plan> load_plan(const std::filesystem::path& path) {
  const File file(path);
  if (file.size() > kMaxPlanBytes) {
    corrupt(path.string(),
            fmt::format("got {} bytes, a plan has at most {}", file.size(), kMaxPlanBytes));
  }
  std::vector<std::byte> bytes(static_cast<size_t>(file.size()));
  file.read(0, bytes);
  return std::make_shared<const Plan>(deserialize(bytes, path.string()));
}

bool is_plan_file(const std::filesystem::path& path) {
  const File file(path);
  std::array<std::byte, kMagic.size()> bytes{};
  if (file.size() < bytes.size()) return false;
  file.read(0, bytes);
  return std::ranges::equal(bytes, std::as_bytes(std::span(kMagic)));
}

std::vector<std::filesystem::path> plans_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const std::string& name : list_folder(folder)) {
    if (name.ends_with(".plan")) files.push_back(folder / name);
  }
  return files;
}

void check_fits(const Plan& plan, const backend::DeviceInfo& device,
                std::span<const backend::Kernel* const> kernels, const std::string& origin) {
  for (const auto& [key, value] : library_entries(device, kernels)) {
    const std::string built = plan.fingerprint.entry(key);
    if (built == value) continue;
    throw Error(Errc::kIncompatiblePlan,
                fmt::format("{}: built for {} '{}', this is '{}'; run 'halftone build' again",
                            origin, key, built, value));
  }
}

}  // namespace halftone::runtime
