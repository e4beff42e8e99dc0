// Regular expressions over layer names, matched in linear time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::quant {

// Literals, ., [a-z], [^...], \d \w \. and other escapes, ( ), (?: ), |, * + ? {m} {m,n} {m,}, ^,
// $. A set of states is advanced a character at a time: no pattern is slow. Throws kInvalidArgument
// with the position for what it does not know, and for patterns of more than kMaxStates states.
class Pattern {
 public:
  static constexpr size_t kMaxStates = 4096;

  explicit Pattern(std::string_view text);
  // Whether any part of the name matches.
  [[nodiscard]] bool search(std::string_view name) const;
  [[nodiscard]] const std::string& text() const { return text_; }
  // What it costs: about 100 bytes, and a step a character, for each.
  [[nodiscard]] size_t num_states() const { return states_.size(); }

 private:
  friend class PatternParser;
  struct State {
    enum class Kind : uint8_t { kSet, kSplit, kBegin, kEnd, kMatch } kind;
    size_t next = 0, other = 0;
    std::vector<bool> set = {};  // kSet: 256 flags
  };
  void add(std::vector<bool>& active, std::vector<size_t>& list, size_t state, size_t at,
           size_t size) const;

  std::string text_;
  std::vector<State> states_;
  size_t start_ = 0;
};

}  // namespace halftone::quant
