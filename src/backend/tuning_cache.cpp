#include "backend/tuning_cache.h"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

namespace halftone::backend {

TuningCache::TuningCache(std::string file) : file_(std::move(file)) {
  std::ifstream in(file_);
  for (std::string line; std::getline(in, line);) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos) values_[line.substr(0, tab)] = line.substr(tab + 1);
  }
}

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
  const std::string part = file_ + ".part";
  {
    std::ofstream out(part);
    for (const auto& [key, value] : values_) out << key << '\t' << value << '\n';
    if (!out) return;
  }
  std::filesystem::rename(part, file_, ignored);
  changed_ = false;
}

}  // namespace halftone::backend
