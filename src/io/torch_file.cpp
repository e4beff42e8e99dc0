#include "io/torch_file.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/scalar_types.h"

namespace halftone::io {
namespace {

template <class T>
T element(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

float to_float(TorchType type, const std::byte* bytes) {
  switch (type) {
    case TorchType::kFloat:
      return element<float>(bytes);
    case TorchType::kDouble:
      return static_cast<float>(element<double>(bytes));
    case TorchType::kHalf:
      return f16_to_float(element<uint16_t>(bytes));
    case TorchType::kBFloat16:
      return bf16_to_float(element<uint16_t>(bytes));
    case TorchType::kLong:
      return static_cast<float>(element<int64_t>(bytes));
    case TorchType::kInt:
      return static_cast<float>(element<int32_t>(bytes));
    case TorchType::kShort:
      return static_cast<float>(element<int16_t>(bytes));
    case TorchType::kChar:
      return static_cast<float>(element<int8_t>(bytes));
    case TorchType::kByte:
    case TorchType::kBool:
      return static_cast<float>(element<uint8_t>(bytes));
  }
  return 0;
}

}  // namespace

size_t size_of(TorchType type) {
  switch (type) {
    case TorchType::kDouble:
    case TorchType::kLong:
      return 8;
    case TorchType::kFloat:
    case TorchType::kInt:
      return 4;
    case TorchType::kHalf:
    case TorchType::kBFloat16:
    case TorchType::kShort:
      return 2;
    case TorchType::kChar:
    case TorchType::kByte:
    case TorchType::kBool:
      break;
  }
  return 1;
}

int64_t TorchTensor::num_elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

TorchFile::TorchFile(const std::filesystem::path& path) : file_(path) {
  std::array<std::byte, 2> magic{};
  if (file_.size() >= magic.size()) file_.read(0, magic);
  if (magic[0] == std::byte{'P'} && magic[1] == std::byte{'K'}) {
    read_archive();
  } else if (magic[0] == std::byte{0x80}) {
    read_stream();
  } else {
    fail(
        "is neither a zip archive nor a pickle; not made by torch.save, or by torch before 0.1.10");
  }
  for (const TorchTensor& tensor : pickle_.tensors) {
    const auto found = members_.find(prefix_ + "/data/" + tensor.storage);
    if (found == members_.end()) fail(fmt::format("storage '{}' is missing", tensor.storage));
    const uint64_t wanted = static_cast<uint64_t>(tensor.storage_size) * size_of(tensor.type);
    if (found->second.size != wanted) {
      fail(fmt::format("storage '{}' has {} bytes, wanted {}", tensor.storage, found->second.size,
                       wanted));
    }
  }
}

void TorchFile::fail(std::string_view what) const {
  throw Error(Errc::kCorruptFile, fmt::format("{}: {}", file_.path().string(), what));
}

void TorchFile::read_archive() {
  members_ = read_zip_directory(file_);
  constexpr std::string_view kPickle = "/data.pkl";
  const ZipMember* pickle = nullptr;
  for (const auto& [name, member] : members_) {
    if (name.find("/code/") != std::string::npos) fail("is a TorchScript archive");
    if (!name.ends_with(kPickle)) continue;
    if (pickle != nullptr) fail("holds two data.pkl");
    pickle = &member;
    prefix_ = name.substr(0, name.size() - kPickle.size());
  }
  if (pickle == nullptr) fail("holds no data.pkl; not made by torch.save");
  if (pickle->size > kMaxPickleBytes) {
    fail(fmt::format("data.pkl has {} bytes, wanted at most {}", pickle->size, kMaxPickleBytes));
  }
  if (const auto order = members_.find(prefix_ + "/byteorder"); order != members_.end()) {
    std::vector<std::byte> text(std::min<uint64_t>(order->second.size, 16));
    file_.read(order->second.offset, text);
    const std::string_view name(reinterpret_cast<const char*>(text.data()), text.size());
    if (name != "little") fail("its byte order is not little");
  }
  std::vector<std::byte> bytes(pickle->size);
  file_.read(pickle->offset, bytes);
  pickle_ = parse_pickle(bytes, file_.path().string());
}

// The pickle at `at`, which then lies behind it.
Pickle TorchFile::next_pickle(uint64_t& at) const {
  // Most pickles are short, and what follows may be gigabytes.
  uint64_t window = uint64_t{1} << 20;
  const uint64_t most = std::min<uint64_t>(file_.size() - at, kMaxPickleBytes);
  while (true) {
    std::vector<std::byte> bytes(std::min(window, most));
    file_.read(at, bytes);
    try {
      size_t rest = 0;
      Pickle pickle = parse_pickle(bytes, file_.path().string(), &rest);
      at += bytes.size() - rest;
      return pickle;
    } catch (const Error&) {
      if (bytes.size() == most) throw;
      window *= 16;
    }
  }
}

// Five pickles (a magic number, the version 1001, facts of the machine, the object, the keys of its
// storages), then the storages.
void TorchFile::read_stream() {
  constexpr std::array<uint8_t, 13> kMagic = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                              0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e};
  std::array<std::byte, kMagic.size() + 2> head{};
  if (file_.size() >= head.size()) file_.read(0, head);
  const bool is_stream = std::equal(kMagic.begin(), kMagic.end(), head.begin() + 2,
                                    [](uint8_t a, std::byte b) { return std::byte{a} == b; });
  if (!is_stream) fail("is a pickle, but none of torch.save's");
  uint64_t at = head.size();
  const Pickle version = next_pickle(at);
  if (version.at(version.root).integer != 1001) fail("its stream has another version than 1001");
  const Pickle machine = next_pickle(at);
  const PickleValue* little = machine.find(machine.at(machine.root), "little_endian");
  if (little == nullptr || little->integer != 1) fail("its byte order is not little");
  pickle_ = next_pickle(at);
  const Pickle keys = next_pickle(at);
  if (keys.at(keys.root).kind != PickleValue::Kind::kList) fail("has no list of storages");
  find_storages(keys, at);
}

// Each storage in the order of the keys: its number of elements (8 bytes), then they.
void TorchFile::find_storages(const Pickle& keys, uint64_t at) {
  std::map<std::string, size_t> item_size;
  for (const TorchTensor& tensor : pickle_.tensors) {
    item_size.emplace(tensor.storage, size_of(tensor.type));
  }
  prefix_ = "stream";
  for (const uint32_t index : keys.at(keys.root).items) {
    const PickleValue& key = keys.at(index);
    const auto known = item_size.find(key.text);
    if (key.kind != PickleValue::Kind::kString || known == item_size.end()) {
      fail("its list of storages names one that no tensor has");
    }
    std::array<std::byte, 8> count{};
    if (file_.size() - at < count.size()) fail("is cut short");
    file_.read(at, count);
    at += count.size();
    const auto elements = element<uint64_t>(count.data());
    if (elements > (file_.size() - at) / known->second) {
      fail(fmt::format("storage '{}' leaves the file", key.text));
    }
    const ZipMember member{.offset = at, .size = elements * known->second};
    at += member.size;
    if (!members_.emplace(prefix_ + "/data/" + key.text, member).second) {
      fail(fmt::format("storage '{}' comes twice", key.text));
    }
  }
  if (at == file_.size()) return;
  pickle_.warnings.push_back(fmt::format("{}: {} bytes follow the storages and are ignored",
                                         file_.path().string(), file_.size() - at));
}

const TorchTensor& TorchFile::tensor(const PickleValue& value, std::string_view what) const {
  if (value.kind != PickleValue::Kind::kTensor) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: '{}' is no tensor", file_.path().string(), what));
  }
  return pickle_.tensors[static_cast<size_t>(value.integer)];
}

Tensor TorchFile::read(const TorchTensor& tensor) const {
  const size_t item = size_of(tensor.type);
  const ZipMember& member = members_.at(prefix_ + "/data/" + tensor.storage);
  Tensor result({DType::kF32, Shape(tensor.shape)});
  if (tensor.num_elements() == 0) return result;
  int64_t extent = 1;  // elements from the first to the last
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    extent += (tensor.shape[i] - 1) * tensor.strides[i];
  }
  std::vector<std::byte> bytes(static_cast<size_t>(extent) * item);
  file_.read(member.offset + static_cast<uint64_t>(tensor.offset) * item, bytes);
  std::vector<int64_t> index(tensor.shape.size(), 0);
  for (float& value : result.values<float>()) {
    int64_t at = 0;
    for (size_t i = 0; i < index.size(); ++i) at += index[i] * tensor.strides[i];
    value = to_float(tensor.type, bytes.data() + static_cast<size_t>(at) * item);
    for (size_t i = index.size(); i > 0; --i) {
      ++index[i - 1];
      if (index[i - 1] < tensor.shape[i - 1]) break;
      index[i - 1] = 0;
    }
  }
  return result;
}

}  // namespace halftone::io
