// Text of PNG chunks between UTF-8 and Latin-1.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace halftone::io {

// Nullopt when a character is not in Latin-1 or the text is not well-formed UTF-8.
[[nodiscard]] std::optional<std::string> utf8_to_latin1(std::string_view text);
[[nodiscard]] std::string latin1_to_utf8(std::string_view text);

}  // namespace halftone::io
