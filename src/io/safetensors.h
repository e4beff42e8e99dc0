// The safetensors format: scan (header only), read, write.
// Rules (stricter than or equal to the reference implementation): the header is at most 100,000,000
// bytes and starts with '{'; keys are unique; tensors sorted by offset cover the data section from
// 0 to the end of the file without hole or overlap.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "tensor/tensor.h"

namespace halftone::io {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr size_t kMaxSafetensorsTensors = 200'000;

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;      // as written: "F16"
  std::optional<DType> dtype;  // empty for types that Halftone cannot compute with (F64, C64, ...)
  Shape shape;
  uint64_t begin = 0;  // byte range in the file
  uint64_t end = 0;
  // Throws kUnsupported naming the tensor when the dtype is not one of ours.
  [[nodiscard]] TensorType type(std::string_view where) const;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // in the order of their data
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<std::string> warnings;
  Sha256Digest hash{};  // of the header text
};

// Reads and checks the header alone; throws kCorruptFile beginning with the file name (`where`).
[[nodiscard]] SafetensorsHeader scan_safetensors(const File& file);
[[nodiscard]] SafetensorsHeader scan_safetensors(std::span<const std::byte> bytes,
                                                 std::string_view where);

// An open file. Tensor data is read by position into the caller's memory, never mapped: a file that
// shrinks gives an error instead of a signal, and pages of it do not count as our memory.
// Safe to read from several threads.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  [[nodiscard]] const File& file() const { return file_; }
  [[nodiscard]] const SafetensorsHeader& header() const { return header_; }
  // Null when absent.
  [[nodiscard]] const SafetensorsEntry* find(const std::string& name) const;
  // Reads elements [first, first + count) converted to `dtype` and returns how many of them are
  // infinite or not a number.
  uint64_t read(const SafetensorsEntry& entry, uint64_t first, uint64_t count, DType dtype,
                std::byte* dst) const;

 private:
  File file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, size_t> index_;  // views of header_'s names
};

struct NamedType {
  std::string name;
  TensorType type;
};

// Writes a file whose tensors are known beforehand, in any order and from any number of threads;
// the file appears on commit().
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::vector<NamedType> tensors,
                    const std::vector<std::pair<std::string, std::string>>& metadata = {});

  [[nodiscard]] const std::vector<NamedType>& tensors() const { return tensors_; }
  // Bytes [offset, offset + size) of tensor `index`. Each byte must be written exactly once.
  void write(size_t index, uint64_t offset, std::span<const std::byte> bytes);
  void commit();

 private:
  std::vector<NamedType> tensors_;
  std::vector<uint64_t> begins_;  // file positions, one more than tensors
  std::atomic<uint64_t> written_ = 0;
  AtomicFile file_;
};

}  // namespace halftone::io
