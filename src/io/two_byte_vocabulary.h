// A stand-in for CLIP's vocabulary where it is not at hand.
#pragma once

#include <string>

namespace halftone::io {

struct TwoByteVocabulary {
  std::string vocab_json, merges_txt;
};

// A valid byte-pair vocabulary of CLIP's size (49,408) and layout: 256 byte characters, the same at
// the end of a word, 48,894 merges of two bytes each (the common bytes first), begin and end of
// text. Ids differ from CLIP's, so it serves random weights only.
[[nodiscard]] TwoByteVocabulary two_byte_vocabulary();

}  // namespace halftone::io
