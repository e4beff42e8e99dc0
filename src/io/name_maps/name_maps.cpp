#include "io/name_maps/name_maps.h"

#include <array>
#include <charconv>

namespace halftone::io {

#define HALFTONE_NAME_MAP(name) extern const NameMap k_##name;
#include "io/name_maps/name_maps.inc"
#undef HALFTONE_NAME_MAP

std::span<const NameMap* const> name_maps() {
#define HALFTONE_NAME_MAP(name) &k_##name,
  static constexpr std::array kMaps{
#include "io/name_maps/name_maps.inc"
  };
#undef HALFTONE_NAME_MAP
  return kMaps;
}

DottedName::DottedName(std::string_view text) : text_(text) {
  while (true) {
    const size_t dot = text.find('.');
    parts_.push_back(text.substr(0, dot));
    if (dot == std::string_view::npos) return;
    text.remove_prefix(dot + 1);
  }
}

std::string_view DottedName::from(size_t i) const {
  if (i >= parts_.size()) return {};
  return text_.substr(static_cast<size_t>(parts_[i].data() - text_.data()));
}

std::optional<uint64_t> DottedName::index(size_t i) const {
  const std::string_view part = (*this)[i];
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
  if (error != std::errc() || end != part.data() + part.size() || value > 9999) return std::nullopt;
  return value;
}

std::optional<std::string> rename(std::string_view text, std::span<const Rename> table) {
  for (const auto& [from, to] : table) {
    if (!text.starts_with(from)) continue;
    const std::string_view rest = text.substr(from.size());
    if (!rest.empty() && rest.front() != '.') continue;
    return std::string(to).append(rest);
  }
  return std::nullopt;
}

}  // namespace halftone::io
