#include "text/unicode.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>
#include <utf8proc.h>

#include "halftone/error.h"

namespace halftone::text {
namespace {

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

struct Range {
  char32_t first;
  char32_t last;
};

// Marks and composing letters newer than Unicode 9. The tokenizers library normalises by the tables
// of that version, so to it they are plain characters: never reordered, never composed.
constexpr Range kNotNormalised[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930},
    {0x11935, 0x11935}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x16FF0, 0x16FF1},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}};

bool is_normalised(char32_t c) {
  const auto* range = std::lower_bound(std::begin(kNotNormalised), std::end(kNotNormalised), c,
                                       [](const Range& r, char32_t v) { return r.last < v; });
  return range == std::end(kNotNormalised) || c < range->first;
}

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Sorts each run of combining marks by class. utf8proc's own ordering is quadratic in the run.
void order_marks(std::vector<utf8proc_int32_t>& text) {
  const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
  for (auto it = text.begin(); it != text.end();) {
    const auto begin = std::find_if(it, text.end(), is_mark);
    it = std::find_if_not(begin, text.end(), is_mark);
    std::stable_sort(begin, it, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
  }
}

void append_decomposed(char32_t c, std::vector<utf8proc_int32_t>& out) {
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE);
  constexpr utf8proc_ssize_t kMaxDecomposition = 16;  // the longest canonical one has 4
  utf8proc_int32_t buffer[kMaxDecomposition];
  int boundary = 0;
  const utf8proc_ssize_t n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer,
                                                     kMaxDecomposition, kOptions, &boundary);
  check_internal(n > 0 && n <= kMaxDecomposition, "a canonical decomposition is too long");
  out.insert(out.end(), buffer, buffer + n);
}

void append_composed(std::u32string_view text, std::u32string& out) {
  std::vector<utf8proc_int32_t> buffer;
  buffer.reserve(text.size() + 1);
  for (char32_t c : text) append_decomposed(c, buffer);
  order_marks(buffer);
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  const utf8proc_ssize_t n = utf8proc_normalize_utf32(
      buffer.data(), static_cast<utf8proc_ssize_t>(buffer.size()), kOptions);
  check_internal(n >= 0, "Unicode composition failed");
  out.append(buffer.begin(), std::next(buffer.begin(), n));
}

}  // namespace

CharClass char_class(char32_t c) {
  if (is_space(c)) return CharClass::kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::kNumber;
    default:
      return CharClass::kOther;
  }
}

std::u32string decode_utf8(std::string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t n =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + i,
                         static_cast<utf8proc_ssize_t>(text.size() - i), &c);
    if (n <= 0) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("text: malformed UTF-8 at byte {} (0x{:02x}); pass valid UTF-8", i,
                              static_cast<unsigned char>(text[i])));
    }
    result.push_back(static_cast<char32_t>(c));
    i += static_cast<size_t>(n);
  }
  return result;
}

void append_utf8(char32_t c, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out.append(bytes, bytes + n);
}

std::u32string to_nfc(std::u32string_view text) {
  constexpr char32_t kFirstChanging = 0x300;  // below it every string is NFC
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < kFirstChanging; })) {
    return std::u32string(text);
  }
  std::u32string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const auto end = std::find_if_not(text.begin(), text.end(), is_normalised);
    const auto length = static_cast<size_t>(end - text.begin());
    append_composed(text.substr(0, length), result);
    if (end != text.end()) result.push_back(*end);
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return result;
}

void append_lower_case(char32_t c, std::u32string& out) {
  if (c == 0x130) {  // the only character whose lower case is two
    out.push_back(U'i');
    out.push_back(0x307);
    return;
  }
  out.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

}  // namespace halftone::text
