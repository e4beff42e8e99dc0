#include "quant/pattern.h"

#include <ctime>

#include <gtest/gtest.h>

#include "halftone/error.h"

namespace halftone::quant {
namespace {

struct Case {
  const char* pattern;
  const char* name;
  bool matches;
};

TEST(Pattern, SearchesAnywhere) {
  const Case cases[] = {
      {"conv_in|conv_out", "unet.conv_out.x", true},
      {"^conv_in$", "conv_in", true},
      {"^conv_in$", "a.conv_in", false},
      {"to_[qkv]$", "attn1.to_q", true},
      {"to_[qkv]$", "attn1.to_out.0", false},
      {"ff\\.net", "ff.net.2", true},
      {"ff\\.net", "ffxnet", false},
      {"ff.net", "ffxnet", true},
      {"blocks\\.\\d+\\.attn", "blocks.12.attn", true},
      {"blocks\\.\\d+\\.attn", "blocks.x.attn", false},
      {"a(b|c)*d", "xabcbcdx", true},
      {"a(?:b|c)+d", "ad", false},
      {"ab?c", "ac", true},
      {"a{2,3}b", "ab", false},
      {"^a{2,3}b", "aaaab", false},
      {"^a{2,}b$", "aaaab", true},
      {"^(ab){2}$", "abab", true},
      {"[^.]+$", "a.b", true},
      {"^[^.]+$", "a.b", false},
      {"[a-c-]x", "-x", true},
      {"[]x]y", "]y", true},
      {"", "anything", true},
      {"a||b", "zzz", true},
      {"^$", "x", false},
      {"up_blocks\\.{0,1}2", "up_blocks2", true},
      {"emb_layers.1|^out\\.1$", "out.1", true},
      {"(a*)*b", "aaaac", false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Pattern(c.pattern).search(c.name), c.matches) << c.pattern << " on " << c.name;
  }
}

TEST(Pattern, RefusesWhatItDoesNotKnow) {
  for (const char* bad : {"(", ")", "a)b", "[", "[a", "*a", "a**b{", "{2}", "a{", "a{x}", "a{3,2}",
                          "a{65}", "\\", "\\q", "(?=x)", "[z-a]", "a|*"}) {
    EXPECT_THROW(Pattern{bad}, Error) << bad;
  }
  EXPECT_THROW(Pattern(std::string(100, '(')), Error);
  EXPECT_THROW(Pattern("((((a{60}){60}){60}){60})"), Error);
  EXPECT_THROW(Pattern(std::string(5000, 'a')), Error);
}

TEST(Pattern, CatastrophicPatternsAreLinear) {
  const std::string name(2000, 'a');
  const std::clock_t start = std::clock();  // of the processor: others may use it too
  EXPECT_FALSE(Pattern("^(a|a)*(a*)*(a?){40}b$").search(name));
  EXPECT_LT(std::clock() - start, 5 * CLOCKS_PER_SEC);
}

}  // namespace
}  // namespace halftone::quant
