// What was measured to be fastest on this machine.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace halftone::backend {

// Of the sources that the kernels of this program come from.
[[nodiscard]] std::string_view kernels_hash();

// Measured choices by key, kept in a text file between runs: "key<TAB>value" lines behind one that
// names the kernels that were measured (kernels_hash()).
class TuningCache {
 public:
  // An unreadable file, a foreign one and one of other kernels count as empty: what they chose says
  // nothing of those that have come since.
  explicit TuningCache(std::string file);
  [[nodiscard]] std::optional<std::string> find(const std::string& key) const;
  void insert(const std::string& key, const std::string& value);
  // Writes what was added beside what other processes have written since, whole file at once;
  // errors are ignored, it is a cache.
  void save();

 private:
  std::string file_;
  std::map<std::string, std::string> values_;
  bool changed_ = false;
};

}  // namespace halftone::backend
