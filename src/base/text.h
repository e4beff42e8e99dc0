// Small text helpers shared by readers: UTF-8 checks and safe quoting of foreign strings.
#pragma once

#include <string>
#include <string_view>

namespace halftone {

// True for well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
[[nodiscard]] bool is_utf8(std::string_view text);

// `text` made fit for a message: control characters and malformed UTF-8 as \xNN, cut to about
// `max_bytes` with "..." at the end.
[[nodiscard]] std::string printable(std::string_view text, size_t max_bytes = 120);

}  // namespace halftone
