// CLIP's tokenizer: equal to Hugging Face's CLIPTokenizer, from the files of a model folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "text/bpe.h"
#include "text/clip_tokenizer_config.h"

namespace halftone::text {

// What the text encoder can take; 0 where not known.
struct ClipTokenizerLimits {
  int64_t max_positions = 0;   // positional embeddings: bounds model_max_length
  int64_t embedding_rows = 0;  // token embeddings: bounds the ids
};

// A prompt as the text encoder reads it.
struct ClipEncoding {
  std::vector<int32_t> ids;  // max_length() of them: begin, content, end, padding
  int64_t num_tokens = 0;    // content tokens of the whole text
  int64_t num_cut = 0;       // content tokens left out because they did not fit
  std::string cut_text;      // what they say
};

// Immutable after loading; safe to use from several threads.
class ClipTokenizer {
 public:
  // Longest prompt that encode() takes, in code points.
  static constexpr size_t kMaxPromptLength = 32000;

  // Reads vocab.json and merges.txt, or else tokenizer.json, and the optional files of `folder`.
  // Throws kNotFound, kCorruptFile or kUnsupported, naming the file.
  static ClipTokenizer load(const std::filesystem::path& folder,
                            const ClipTokenizerLimits& limits = {});
  explicit ClipTokenizer(const ClipTokenizerFiles& files, const ClipTokenizerLimits& limits = {});

  [[nodiscard]] int32_t begin_id() const { return begin_id_; }
  [[nodiscard]] int32_t end_id() const { return end_id_; }
  [[nodiscard]] int32_t pad_id() const { return pad_id_; }
  [[nodiscard]] int64_t max_length() const { return max_length_; }
  // Tokens, added ones included.
  [[nodiscard]] int64_t vocabulary_size() const { return vocabulary_size_; }

  // The content ids of a text of any length, without begin and end. Throws kInvalidArgument with
  // the byte offset for malformed UTF-8.
  [[nodiscard]] std::vector<int32_t> tokenize(std::string_view text) const;
  // A prompt cut and padded to max_length() ids with the end token last. Also throws
  // kInvalidArgument for NUL and for a prompt longer than kMaxPromptLength.
  [[nodiscard]] ClipEncoding encode(std::string_view prompt) const;
  // Text of content ids.
  [[nodiscard]] std::string decode(const std::vector<int32_t>& ids) const;

 private:
  // A token that is cut out of the text before splitting.
  struct AddedToken {
    std::u32string content;
    int32_t id = 0;
  };
  ClipTokenizer(ClipTokenizerParts parts, const ClipTokenizerLimits& limits);
  // Id of an added token, in or behind the vocabulary.
  [[nodiscard]] int32_t added_id(const ClipTokenizerConfig& config, const std::string& content,
                                 const std::string& where) const;
  // The longest of `tokens` with which `text` begins, or null.
  static const AddedToken* match(const std::vector<AddedToken>& tokens, std::u32string_view text);
  void tokenize_raw_piece(std::u32string_view piece, std::vector<int32_t>& ids) const;
  void tokenize_words(std::u32string_view text, std::vector<int32_t>& ids) const;

  Bpe bpe_;
  std::vector<AddedToken> raw_tokens_;         // looked for in the text as given
  std::vector<AddedToken> normalised_tokens_;  // looked for after normalisation
  int32_t begin_id_ = 0;
  int32_t end_id_ = 0;
  int32_t pad_id_ = 0;
  int64_t max_length_ = 0;
  int64_t vocabulary_size_ = 0;
};

}  // namespace halftone::text
