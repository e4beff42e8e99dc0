#include "io/tensor_file.h"

#include <array>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/text.h"

namespace halftone::io {
namespace {

bool is_safetensors(const std::filesystem::path& path) {
  if (path.extension() == ".safetensors") return true;
  // The length of a header of at most 100 MB, then the header.
  const File file(path);
  std::array<std::byte, 9> head{};
  if (file.size() < head.size()) return false;
  file.read(0, head);
  return head[4] == std::byte{0} && head[5] == std::byte{0} && head[8] == std::byte{'{'};
}

}  // namespace

TensorFile::TensorFile(const std::filesystem::path& path) : path_(path) {
  if (is_safetensors(path)) {
    safetensors_ = std::make_unique<SafetensorsFile>(path);
    list_safetensors();
  } else {
    torch_ = std::make_unique<TorchFile>(path);
    list_torch();
  }
}

void TensorFile::list_safetensors() {
  warnings_ = safetensors_->header().warnings;
  for (const SafetensorsEntry& entry : safetensors_->header().tensors) {
    shapes_.emplace(entry.name, entry.shape);
  }
}

void TensorFile::list_torch() {
  using Kind = PickleValue::Kind;
  const Pickle& pickle = torch_->pickle();
  warnings_ = pickle.warnings;
  const PickleValue* dict = &torch_->root();
  if (const PickleValue* inner = pickle.find(*dict, "state_dict")) dict = inner;
  if (dict->kind != Kind::kDict) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: holds no dict of tensors, a state dict", path_.string()));
  }
  size_t skipped = 0;
  for (size_t i = 0; i + 1 < dict->items.size(); i += 2) {
    const PickleValue& name = pickle.at(dict->items[i]);
    const PickleValue& value = pickle.at(dict->items[i + 1]);
    if (name.kind != Kind::kString) {
      throw Error(Errc::kCorruptFile,
                  fmt::format("{}: a tensor's name is no string", path_.string()));
    }
    if (value.kind != Kind::kTensor) {
      ++skipped;
      continue;
    }
    const TorchTensor& tensor = torch_->tensor(value, name.text);
    shapes_.insert_or_assign(name.text, Shape(tensor.shape));
    tensors_.insert_or_assign(name.text, tensor);
  }
  if (skipped == 0) return;
  warnings_.push_back(
      fmt::format("{}: {} entries are no tensors and are skipped", path_.string(), skipped));
}

Tensor TensorFile::read(const std::string& name) const {
  const auto shape = shapes_.find(name);
  if (shape == shapes_.end()) {
    throw Error(Errc::kNotFound,
                fmt::format("{}: has no tensor '{}'", path_.string(), printable(name)));
  }
  if (torch_) return torch_->read(tensors_.at(name));
  Tensor tensor({DType::kF32, shape->second});
  const SafetensorsEntry& entry = *safetensors_->find(name);
  (void)entry.type(path_.string());
  safetensors_->read(entry, 0, static_cast<uint64_t>(shape->second.num_elements()), DType::kF32,
                     tensor.data());
  return tensor;
}

}  // namespace halftone::io
