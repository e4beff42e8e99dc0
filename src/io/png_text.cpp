#include "io/png_text.h"

#include "base/text.h"

namespace halftone::io {

std::optional<std::string> utf8_to_latin1(std::string_view text) {
  if (!is_utf8(text)) return std::nullopt;
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto first = static_cast<unsigned char>(text[i]);
    if (first < 0x80) {
      out.push_back(text[i]);
      continue;
    }
    if (first > 0xc3) return std::nullopt;  // beyond U+00FF
    const auto second = static_cast<unsigned char>(text[++i]);
    out.push_back(static_cast<char>(((first & 0x03U) << 6) | (second & 0x3fU)));
  }
  return out;
}

std::string latin1_to_utf8(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out.push_back(c);
    } else {
      out.push_back(static_cast<char>(0xc0U | (byte >> 6)));
      out.push_back(static_cast<char>(0x80U | (byte & 0x3fU)));
    }
  }
  return out;
}

}  // namespace halftone::io
