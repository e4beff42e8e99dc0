// The Unicode operations of tokenizers, in time linear in the text (n log n for runs of marks).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::text {

enum class CharClass : uint8_t { kSpace, kLetter, kNumber, kOther };

// What \s, \p{L} and \p{N} match; everything else, unassigned code points included, is kOther.
[[nodiscard]] CharClass char_class(char32_t c);

// Code points of UTF-8 text. Throws kInvalidArgument with the byte offset of the first malformed
// sequence (overlong forms, surrogates and values above U+10FFFF included).
[[nodiscard]] std::u32string decode_utf8(std::string_view text);
void append_utf8(char32_t c, std::string& out);

// Canonical composition (NFC) by the tables of Unicode 9, as Hugging Face's tokenizers do it.
[[nodiscard]] std::u32string to_nfc(std::u32string_view text);

// Lower case character by character: full mappings, no context rules (no final sigma).
void append_lower_case(char32_t c, std::u32string& out);

}  // namespace halftone::text
