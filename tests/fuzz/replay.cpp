// Runs a fuzz target once on every file of a folder. Exit code 1 when the folder has none.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>

#include "base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  int num_inputs = 0;
  for (int i = 1; i < argc; ++i) {
    for (const std::string& name : halftone::list_folder(argv[i])) {
      const std::string input = halftone::read_text_file(std::filesystem::path(argv[i]) / name);
      std::printf("%s\n", name.c_str());
      std::fflush(stdout);  // the last name printed is the input that crashed
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
      ++num_inputs;
    }
  }
  return num_inputs > 0 ? 0 : 1;
}
