// Named tensors of one file, whatever its format: safetensors, or a state dict that torch.save
// wrote.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/torch_file.h"
#include "tensor/tensor.h"

namespace halftone::io {

class TensorFile {
 public:
  // The format is told by the extension .safetensors or the first bytes. Of a state dict, which may
  // lie under the key "state_dict", what is no tensor is left out with a warning. Throws as
  // SafetensorsFile and TorchFile; kCorruptFile too for a root that is no dict and for names that
  // are no strings.
  explicit TensorFile(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const std::map<std::string, Shape>& shapes() const { return shapes_; }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }
  // One of shapes(), converted to f32.
  [[nodiscard]] Tensor read(const std::string& name) const;

 private:
  void list_safetensors();
  void list_torch();

  std::filesystem::path path_;
  std::unique_ptr<SafetensorsFile> safetensors_;
  std::unique_ptr<TorchFile> torch_;
  std::map<std::string, TorchTensor> tensors_;  // of torch_
  std::map<std::string, Shape> shapes_;
  std::vector<std::string> warnings_;
};

}  // namespace halftone::io
