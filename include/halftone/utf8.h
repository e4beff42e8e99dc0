// Whether a text is UTF-8, and where it is not.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace halftone {

// The byte where the first malformed sequence begins (overlong forms, surrogates and what is above
// U+10FFFF are malformed); nullopt when there is none.
[[nodiscard]] std::optional<size_t> malformed_utf8(std::string_view text);

}  // namespace halftone
