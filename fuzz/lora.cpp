// A LoRA file on a tiny model: names, factors, and the weights that they make.
#include "io/lora.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <unistd.h>

#include "halftone/error.h"

#include "base/file.h"

namespace {

using namespace halftone;

const std::shared_ptr<const io::Checkpoint>& base() {
  static const std::shared_ptr<const io::Checkpoint> checkpoint =
      io::Checkpoint::open(std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl");
  return checkpoint;
}

// LoRAs are opened by path; the file is this process's own.
const std::filesystem::path& scratch() {
  static const std::filesystem::path file =
      std::filesystem::temp_directory_path() /
      ("halftone-fuzz-lora-" + std::to_string(::getpid()) + ".safetensors");
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  write_file_atomically(scratch(), {reinterpret_cast<const char*>(data), size});
  try {
    const io::LoraSpec spec{scratch().string(), 0.5};
    const io::LoraWeights weights(base(), {&spec, 1}, {}, {});
    // Reads what the file changes, as loading a plan does.
    for (const auto& entry : weights.entries()) {
      for (const io::LoraModule& module : entry.lora->modules) {
        const TensorType type = weights.type(module.weight);
        std::vector<std::byte> bytes(type.num_bytes());
        weights.read(module.weight, type, bytes.data());
      }
    }
  } catch (const Error& error) {
    if (error.code() != Errc::kCorruptFile && error.code() != Errc::kUnsupported &&
        error.code() != Errc::kInvalidArgument) {
      std::abort();
    }
  }
  std::filesystem::remove(scratch());
  return 0;
}
