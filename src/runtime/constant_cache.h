// Finished constants on disk: what a first start computed from the checkpoint (quantized and packed
// weights), so that later starts only read.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "halftone/log.h"

#include "base/file.h"
#include "base/hash.h"

namespace halftone::runtime {

// One file a component. `identity` names everything that the bytes depend on beside their keys
// (weights, kernels); a file of another identity is replaced, a damaged one ignored with a warning
// and replaced. Without a whole file, what is added is written, and appears on commit(); a full or
// read-only disk costs a warning. Not thread-safe.
class ConstantCache {
 public:
  ConstantCache(std::filesystem::path file, std::string_view identity, Logger logger = {});
  ~ConstantCache();
  ConstantCache(const ConstantCache&) = delete;
  ConstantCache& operator=(const ConstantCache&) = delete;

  [[nodiscard]] bool holds(const std::string& key, size_t bytes) const;
  // Fills `to`; false, with a warning, when the bytes are damaged.
  [[nodiscard]] bool read(const std::string& key, std::span<std::byte> to);
  void add(const std::string& key, std::span<const std::byte> bytes);
  void commit();

  [[nodiscard]] size_t num_read() const { return num_read_; }

 private:
  struct Row;
  struct Entry {
    uint64_t offset = 0, size = 0;
    uint32_t crc = 0;
  };
  void open();
  // Why the file cannot be used; empty when it can, or is of another identity.
  std::string read_table(const File& file);
  void give_up(std::string_view why);

  std::filesystem::path file_;
  Sha256Digest identity_;
  Logger logger_;
  std::unique_ptr<File> source_;  // null when there is no whole file
  std::map<Sha256Digest, Entry> entries_;
  std::unique_ptr<AtomicFile> writer_;  // null when nothing is written
  std::map<Sha256Digest, Entry> added_;
  uint64_t end_ = 0;
  size_t num_read_ = 0;
};

}  // namespace halftone::runtime
