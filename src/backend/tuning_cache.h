// What was measured to be fastest on this machine.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace halftone::backend {

// Measured choices by key, kept in a text file between runs: "key<TAB>value" lines.
class TuningCache {
 public:
  // An unreadable or foreign file counts as empty.
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
