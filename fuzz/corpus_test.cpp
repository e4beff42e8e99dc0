// Runs every file of a fuzz target's corpus through the target, without libFuzzer: inputs that once
// crashed stay fixed.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

TEST(FuzzCorpus, HALFTONE_FUZZ_NAME) {
  const std::filesystem::path folder =
      std::filesystem::path(HALFTONE_SOURCE_DIR) / "fuzz" / "corpus" / HALFTONE_FUZZ_FOLDER;
  const auto names = halftone::list_folder(folder);
  EXPECT_FALSE(names.empty());
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const std::string bytes = halftone::read_text_file(folder / name);
    EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()),
              0);
  }
  EXPECT_EQ(LLVMFuzzerTestOneInput(nullptr, 0), 0);
}

}  // namespace
