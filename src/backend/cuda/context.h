// What launches share beyond their operands: library handles and measured choices. One a process,
// made with the device.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include <cuda_runtime.h>

namespace halftone::backend::cuda {

// Measured choices by key, kept in a text file between runs: "key<TAB>value" lines.
class TuningCache {
 public:
  // An unreadable or foreign file counts as empty.
  explicit TuningCache(std::string file);
  [[nodiscard]] std::optional<std::string> find(const std::string& key) const;
  void insert(const std::string& key, const std::string& value);
  // Writes what was added, whole file at once; errors are ignored, it is a cache.
  void save();

 private:
  std::string file_;
  std::map<std::string, std::string> values_;
  bool changed_ = false;
};

struct Context {
  int ordinal = 0;
  int num_sms = 0;
  cudaStream_t stream = nullptr;
  TuningCache tuning{""};
};

// Throws kInternal before a device was created.
[[nodiscard]] Context& context();
void set_context(std::unique_ptr<Context> context);

}  // namespace halftone::backend::cuda
