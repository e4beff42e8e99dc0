#include "text/unicode.h"

#include <ctime>
#include <filesystem>
#include <set>
#include <string>

#include <gtest/gtest.h>
#include <utf8proc.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/json.h"

namespace halftone::text {
namespace {

Json read_tables() {
  const auto path =
      std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden/tokenizer/unicode.json";
  return parse_json(read_text_file(path), "unicode.json");
}

// Code points that our library's Unicode version does not know yet.
bool is_assigned(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) != UTF8PROC_CATEGORY_CN;
}

TEST(CharClass, EqualsTheOracleOnAllAssignedCodePoints) {
  const Json json = read_tables();
  const JsonView tables(json, "unicode.json");
  std::vector<CharClass> want(0x110000, CharClass::kOther);
  for (const auto& [key, kind] :
       {std::pair{"letter", CharClass::kLetter}, std::pair{"number", CharClass::kNumber},
        std::pair{"space", CharClass::kSpace}}) {
    for (const JsonView& range : tables.at(key).items()) {
      const auto bounds = range.integers();
      for (int64_t c = bounds[0]; c <= bounds[1]; ++c) want[static_cast<size_t>(c)] = kind;
    }
  }
  int num_different = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (is_assigned(c) && char_class(c) != want[c]) {
      ++num_different;
      ADD_FAILURE() << "U+" << std::hex << static_cast<uint32_t>(c);
      if (num_different > 20) return;
    }
  }
}

TEST(LowerCase, EqualsTheOracleOnAllAssignedCodePoints) {
  const Json json = read_tables();
  const JsonView tables(json, "unicode.json");
  std::set<char32_t> changing;
  for (const JsonView& row : tables.at("lower").items()) {
    const auto from = static_cast<char32_t>(row.items()[0].integer());
    changing.insert(from);
    std::u32string want;
    for (int64_t c : row.items()[1].integers()) want.push_back(static_cast<char32_t>(c));
    if (!is_assigned(from) || !is_assigned(want[0])) continue;
    std::u32string got;
    append_lower_case(from, got);
    EXPECT_EQ(got, want) << "U+" << std::hex << static_cast<uint32_t>(from);
  }
  EXPECT_GT(changing.size(), 1400U);
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (changing.count(c) != 0) continue;
    std::u32string got;
    append_lower_case(c, got);
    ASSERT_EQ(got, std::u32string(1, c)) << "U+" << std::hex << static_cast<uint32_t>(c);
  }
}

TEST(Nfc, ComposesAndOrders) {
  EXPECT_EQ(to_nfc(U"e\u0301"), U"\u00e9");
  EXPECT_EQ(to_nfc(U"\u00e9"), U"\u00e9");
  EXPECT_EQ(to_nfc(U"q\u0307\u0323"), U"q\u0323\u0307");  // ordered by combining class
  EXPECT_EQ(to_nfc(U"\u1100\u1161\u11a8"), U"\uac01");    // Hangul
  EXPECT_EQ(to_nfc(U"\u212b"), U"\u00c5");                // singleton
  EXPECT_EQ(to_nfc(U"\u0958"), U"\u0915\u093c");          // composition exclusion
  EXPECT_EQ(to_nfc(U"a\u0315\u0300\u05ae\u0062"), U"\u00e0\u05ae\u0315b");
}

// utf8proc as a whole is the reference on strings short enough for its quadratic ordering.
TEST(Nfc, EqualsUtf8procOnMixedStrings) {
  const char32_t alphabet[] = {U'a',   0x0301, 0x0323, 0x0327, 0x00e9, 0x1100, 0x1161,
                               0x11a8, 0x1e69, 0x0307, 0x05ae, 0x0915, 0x093c, 0x1d15e};
  uint32_t state = 1;
  for (int round = 0; round < 2000; ++round) {
    std::u32string text;
    std::string bytes;
    for (int i = 0; i < 12; ++i) {
      state = state * 1664525U + 1013904223U;
      text.push_back(alphabet[(state >> 16) % std::size(alphabet)]);
      append_utf8(text.back(), bytes);
    }
    utf8proc_uint8_t* composed =
        utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(bytes.c_str()));
    ASSERT_EQ(to_nfc(text), decode_utf8(reinterpret_cast<const char*>(composed)));
    free(composed);  // NOLINT: utf8proc allocates with malloc
  }
}

TEST(Nfc, IsQuickOnManyMarks) {
  std::u32string text = U"a";
  for (int i = 0; i < 100000; ++i) text.push_back(i % 2 == 0 ? 0x0301 : 0x0323);
  const std::clock_t start = std::clock();  // of the processor: others may use it too
  EXPECT_EQ(to_nfc(text).size(), text.size() - 1);
  EXPECT_LT(std::clock() - start, 2 * CLOCKS_PER_SEC);
}

TEST(Utf8, MalformedTextNamesTheByte) {
  struct Case {
    std::string text;
    const char* where;
  };
  const Case cases[] = {{"ab\xff", "byte 2"},        {"\x80", "byte 0"},
                        {"caf\xc3", "byte 3"},       {"\xc0\xaf", "byte 0"},
                        {"x\xed\xa0\x80", "byte 1"}, {"\xf4\x90\x80\x80", "byte 0"},
                        {"\xe2\x82", "byte 0"},      {"ok\xf8\x88\x80\x80\x80", "byte 2"}};
  for (const Case& c : cases) {
    try {
      (void)decode_utf8(c.text);
      ADD_FAILURE() << "accepted text that is malformed at " << c.where;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(c.where), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace halftone::text
