#include "io/safetensors.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "base/json.h"
#include "io/convert.h"

namespace halftone::io {
namespace {

constexpr size_t kChunkBytes = size_t{256} << 10;  // staging buffer; stays in the L2 cache

std::string_view stored_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kF8E5M2:
      return "F8_E5M2";
    case DType::kI8:
      return "I8";
    case DType::kU8:
      return "U8";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
  }
  return "?";
}

std::vector<uint64_t> tensor_begins(const std::vector<NamedType>& tensors) {
  std::vector<uint64_t> begins{0};
  for (const NamedType& tensor : tensors) begins.push_back(begins.back() + tensor.type.num_bytes());
  return begins;
}

std::string header_text(const std::vector<NamedType>& tensors, const std::vector<uint64_t>& begins,
                        const std::vector<std::pair<std::string, std::string>>& metadata) {
  Json::Object root;
  if (!metadata.empty()) {
    Json::Object members;
    for (const auto& [key, value] : metadata) members.emplace_back(key, value);
    root.emplace_back("__metadata__", Json(std::move(members)));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, type] = tensors[i];
    root.emplace_back(name,
                      Json::object({{"dtype", stored_name(type.dtype)},
                                    {"shape", Json::array_of(type.shape.dims())},
                                    {"data_offsets", Json::array({begins[i], begins[i + 1]})}}));
  }
  std::string text = to_text(Json(std::move(root)));
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins aligned
  return text;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), header_(scan_safetensors(file_)) {
  index_.reserve(header_.tensors.size());
  for (size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &header_.tensors[it->second];
}

uint64_t SafetensorsFile::read(const SafetensorsEntry& entry, uint64_t first, uint64_t count,
                               DType dtype, std::byte* dst) const {
  const DType stored = entry.type(file_.path().string()).dtype;
  const uint64_t size = size_of(stored);
  check_internal(first + count <= (entry.end - entry.begin) / size, "read past a tensor's end");
  if (!is_floating(stored) && stored != dtype) {
    throw Error(Errc::kUnsupported,
                fmt::format("{}: tensor '{}' is {}, wanted {}", file_.path().string(), entry.name,
                            to_string(stored), to_string(dtype)));
  }
  uint64_t position = entry.begin + first * size;
  uint64_t non_finite = 0;
  std::unique_ptr<std::byte[]> staging;
  if (stored != dtype) staging = std::make_unique<std::byte[]>(kChunkBytes);
  for (uint64_t done = 0; done < count;) {
    const auto n = static_cast<size_t>(std::min<uint64_t>(count - done, kChunkBytes / size));
    std::byte* out = dst + done * size_of(dtype);
    std::byte* raw = staging ? staging.get() : out;
    file_.read(position, {raw, n * size});
    non_finite += count_non_finite(raw, stored, n);
    if (staging) convert_elements(raw, stored, out, dtype, n);
    position += n * size;
    done += n;
  }
  return non_finite;
}

SafetensorsWriter::SafetensorsWriter(
    const std::filesystem::path& path, std::vector<NamedType> tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata)
    : tensors_(std::move(tensors)), begins_(tensor_begins(tensors_)), file_(path) {
  const std::string text = header_text(tensors_, begins_, metadata);
  const uint64_t length = text.size();
  file_.append(std::as_bytes(std::span(&length, 1)));
  file_.append(text);
  for (uint64_t& begin : begins_) begin += 8 + length;
}

void SafetensorsWriter::write(size_t index, uint64_t offset, std::span<const std::byte> bytes) {
  check_internal(index < tensors_.size() && offset <= begins_[index + 1] - begins_[index] &&
                     bytes.size() <= begins_[index + 1] - begins_[index] - offset,
                 "SafetensorsWriter: bytes outside of the tensor");
  file_.write_at(begins_[index] + offset, bytes);
  written_ += bytes.size();
}

void SafetensorsWriter::commit() {
  check_internal(written_ == begins_.back() - begins_.front(),
                 "SafetensorsWriter: tensors are incomplete");
  file_.commit();
}

}  // namespace halftone::io
