// "did you mean": the known word that a misspelt one is nearest to.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace halftone {

// The word with the fewest edits (a letter more, less or another, two neighbours exchanged), when
// those are at most a third of the letters of the longer of both (and at most 3); empty when there
// is none. Words are short; `text` is cut.
[[nodiscard]] std::string_view near_miss(std::string_view text,
                                         std::span<const std::string_view> words);

// "; did you mean 'word'?", or nothing.
[[nodiscard]] std::string did_you_mean(std::string_view text,
                                       std::span<const std::string_view> words);

}  // namespace halftone
