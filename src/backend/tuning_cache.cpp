#include "backend/tuning_cache.h"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"

namespace halftone::backend {
namespace {

using Values = std::map<std::string, std::string>;

std::string first_line() { return fmt::format("kernels {}", kernels_hash()); }

Values read_values(const std::string& file) {
  Values values;
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line) || line != first_line()) return values;
  while (std::getline(in, line)) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos) values[line.substr(0, tab)] = line.substr(tab + 1);
  }
  return values;
}

}  // namespace

TuningCache::TuningCache(std::string file) : file_(std::move(file)), values_(read_values(file_)) {}

std::optional<std::string> TuningCache::find(const std::string& key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

void TuningCache::insert(const std::string& key, const std::string& value) {
  values_[key] = value;
  changed_ = true;
}

void TuningCache::save() {
  if (!changed_ || file_.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(file_).parent_path(), ignored);
  values_.merge(read_values(file_));  // what other processes measured meanwhile
  std::string text = first_line() + '\n';
  for (const auto& [key, value] : values_) text.append(key + '\t').append(value + '\n');
  try {
    write_file_atomically(file_, text);
  } catch (const Error&) {  // a cache that cannot be kept is done without
    return;
  }
  changed_ = false;
}

}  // namespace halftone::backend
