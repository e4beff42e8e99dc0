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
  const std::string where = path.string();
  const auto fail = [&](const std::string& what) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: {}", where, what));
  };
  std::array<std::byte, 2> magic{};
  if (file_.size() >= magic.size()) file_.read(0, magic);
  if (magic[0] != std::byte{'P'} || magic[1] != std::byte{'K'}) {
    fail(
        "is no zip archive; files of torch before 1.6 are not read: load it there and save it "
        "again");
  }
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
  pickle_ = parse_pickle(bytes, where);
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
  std::vector<std::byte> bytes(member.size);
  file_.read(member.offset, bytes);
  Tensor result({DType::kF32, Shape(tensor.shape)});
  std::vector<int64_t> index(tensor.shape.size(), 0);
  for (float& value : result.values<float>()) {
    int64_t at = tensor.offset;
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
