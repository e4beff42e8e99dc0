// A pickle as torch.save writes it: what is accepted holds together.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "halftone/error.h"

#include "io/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halftone::io;
  try {
    const Pickle pickle = parse_pickle({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    for (const PickleValue& value : pickle.values) {
      for (const uint32_t item : value.items) {
        if (item >= pickle.values.size()) std::abort();
      }
    }
    for (const TorchTensor& tensor : pickle.tensors) {
      // Storages are among them, as tensors without axes.
      if (tensor.shape.empty() || tensor.num_elements() == 0) continue;
      int64_t last = tensor.offset;
      for (size_t i = 0; i < tensor.shape.size(); ++i) {
        last += (tensor.shape[i] - 1) * tensor.strides[i];
      }
      if (last >= tensor.storage_size || tensor.num_elements() > tensor.storage_size) std::abort();
    }
  } catch (const halftone::Error& error) {
    const bool expected = error.code() == halftone::Errc::kCorruptFile ||
                          error.code() == halftone::Errc::kUnsupported;
    if (!expected) std::abort();
  }
  return 0;
}
