#include "io/content_hash.h"

#include <algorithm>
#include <exception>
#include <thread>

#include <fmt/format.h>

#include "base/hash.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kPieceBytes = uint64_t{8} << 20;
// What hash_file() computes; changes with it, so that hashes of an older way are not taken for it.
constexpr std::string_view kHashKind = "sha256 of lanes of 8 MiB pieces/2";

// A changed file has another identity, hence another name here: entries never go stale.
fs::path memo_path(const fs::path& cache, const FileIdentity& id) {
  const std::string key = fmt::format("{} {} {} {} {} {}", kHashKind, id.device, id.inode, id.size,
                                      id.mtime_ns, id.ctime_ns);
  return cache / fmt::format("{}.sha256", to_hex(sha256(key)));
}

bool is_hash(std::string_view text) {
  return text.size() == 64 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string remembered_hash(const File& file, const fs::path& cache, const Logger& logger) {
  if (cache.empty()) {
    std::string hash = hash_file(file);
    file.check_unchanged();
    return hash;
  }
  const fs::path memo = memo_path(cache, file.identity());
  try {
    std::string text = read_text_file(memo, 64);
    if (is_hash(text)) return text;
  } catch (const Error&) {  // not there or damaged: compute it
  }
  const std::string hash = hash_file(file);
  file.check_unchanged();
  try {
    fs::create_directories(cache);
    write_file_atomically(memo, hash, 0600);
  } catch (const std::exception& e) {
    log(logger, LogLevel::kWarning, "io", fmt::format("cannot remember a hash: {}", e.what()));
  }
  return hash;
}

}  // namespace

std::string hash_file(const File& file) {
  const uint64_t num_pieces = (file.size() + kPieceBytes - 1) / kPieceBytes;
  std::vector<Sha256Digest> digests(num_pieces);
  std::atomic<uint64_t> next = 0;
  const uint64_t num_threads = std::clamp<uint64_t>(
      std::min<uint64_t>(std::thread::hardware_concurrency(), num_pieces), 1, 16);
  std::vector<std::exception_ptr> errors(num_threads);
  const auto work = [&](size_t thread) noexcept {
    try {
      std::vector<std::byte> piece(std::min(kPieceBytes, file.size()));
      for (uint64_t i = next++; i < num_pieces; i = next++) {
        const uint64_t begin = i * kPieceBytes;
        const std::span<std::byte> bytes(piece.data(), std::min(kPieceBytes, file.size() - begin));
        file.read(begin, bytes);
        digests[i] = sha256_lanes(bytes);
      }
    } catch (...) {
      errors[thread] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(work, i);
    work(0);
  }
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  Sha256 all;
  for (const Sha256Digest& digest : digests) all.update(digest.data(), digest.size());
  return to_hex(all.finish());
}

std::string hash_structure(const CheckpointParts& parts) {
  Sha256 hash;
  hash.update_field("halftone.checkpoint/1");
  hash.update_field(parts.family);
  for (const auto& [name, view] : parts.configs) {
    hash.update_field(name);
    hash.update_field(to_text(view.value()));
  }
  for (const auto& [name, from] : parts.tensors) {
    hash.update_field(name);
    hash.update_field(from.entry->dtype_name);
    hash.update_field(to_string(from.shape));
  }
  return to_hex(hash.finish());
}

std::string hash_contents(const CheckpointParts& parts, const fs::path& cache,
                          const Logger& logger) {
  Sha256 hash;
  hash.update_field(hash_structure(parts));
  std::vector<std::string> files;
  for (const auto& file : parts.files) {
    files.push_back(remembered_hash(file->file(), cache, logger));
  }
  std::ranges::sort(files);  // independent of the names of the files
  for (const std::string& file : files) hash.update_field(file);
  return to_hex(hash.finish());
}

}  // namespace halftone::io
