// The JSON files of a CLIP tokenizer folder, read into what the tokenizer needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/bpe.h"

namespace halftone::text {

// Contents of the files of a tokenizer folder.
struct ClipTokenizerFiles {
  std::string vocab;           // vocab.json
  std::string merges;          // merges.txt
  std::string tokenizer_json;  // tokenizer.json, used instead of the two above when vocab is empty
  std::string tokenizer_config;    // tokenizer_config.json; may be empty
  std::string special_tokens_map;  // special_tokens_map.json; may be empty
  std::string added_tokens;        // added_tokens.json; may be empty
  std::string folder;              // names the folder in errors
};

struct ClipTokenizerConfig {
  struct AddedToken {
    std::string content;
    std::optional<int32_t> id;   // as the files say
    bool is_normalised = false;  // looked for after normalisation
  };
  std::string begin_token = "<|startoftext|>";
  std::string end_token = "<|endoftext|>";
  std::string pad_token = "<|endoftext|>";
  // The three above, the unknown token and all others of the files; contents are unique.
  std::vector<AddedToken> added;
  std::optional<int64_t> max_length;  // absent: no limit given
};

// Everything a tokenizer is made of.
struct ClipTokenizerParts {
  ClipTokenizerConfig config;
  std::unordered_map<std::string, int32_t> vocabulary;  // token -> id
  std::vector<Bpe::Merge> merges;
  std::string folder;
  std::string vocabulary_file;  // for errors
};

// Of the special tokens tokenizer_config.json wins over special_tokens_map.json, which wins over
// CLIP's defaults. Throws kCorruptFile or kUnsupported, naming file and key.
[[nodiscard]] ClipTokenizerParts read_clip_tokenizer(const ClipTokenizerFiles& files);

}  // namespace halftone::text
