#include "text/clip_tokenizer.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/text.h"
#include "text/unicode.h"

namespace halftone::text {
namespace {

constexpr int64_t kDefaultMaxLength = 77;

std::vector<std::string> contents(const ClipTokenizerConfig& config) {
  std::vector<std::string> result;
  for (const auto& token : config.added) result.push_back(token.content);
  return result;
}

// NFC, runs of white space to one space, lower case.
std::u32string normalise(std::u32string_view text) {
  std::u32string result;
  result.reserve(text.size());
  bool after_space = false;
  for (char32_t c : to_nfc(text)) {
    const bool is_space = char_class(c) == CharClass::kSpace;
    if (!is_space) append_lower_case(c, result);
    if (is_space && !after_space) result.push_back(U' ');
    after_space = is_space;
  }
  return result;
}

// Length of the special token's text at the start of `text`, or 0. Such text, when it is no added
// token (upper case in the prompt), is cut out but then split like any other.
size_t special_length(std::u32string_view text) {
  for (std::u32string_view special : {U"<|startoftext|>", U"<|endoftext|>"}) {
    if (text.starts_with(special)) return special.size();
  }
  return 0;
}

// Length of the word at the start of `text`, which is not a space:
// 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
size_t word_length(std::u32string_view text) {
  for (std::u32string_view suffix : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
    if (text.starts_with(suffix)) return suffix.size();
  }
  const CharClass kind = char_class(text[0]);
  if (kind == CharClass::kNumber) return 1;
  const auto end =
      std::find_if(text.begin(), text.end(), [kind](char32_t c) { return char_class(c) != kind; });
  return static_cast<size_t>(end - text.begin());
}

std::string read_optional(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error) ? read_text_file(path) : std::string();
}

}  // namespace

ClipTokenizer ClipTokenizer::load(const std::filesystem::path& folder,
                                  const ClipTokenizerLimits& limits) {
  ClipTokenizerFiles files;
  files.folder = folder.string();
  std::error_code error;
  if (!std::filesystem::exists(folder / "vocab.json", error) &&
      std::filesystem::exists(folder / "tokenizer.json", error)) {
    files.tokenizer_json = read_text_file(folder / "tokenizer.json");
  } else {
    files.vocab = read_text_file(folder / "vocab.json");
    files.merges = read_text_file(folder / "merges.txt");
  }
  files.tokenizer_config = read_optional(folder / "tokenizer_config.json");
  files.special_tokens_map = read_optional(folder / "special_tokens_map.json");
  files.added_tokens = read_optional(folder / "added_tokens.json");
  return ClipTokenizer(files, limits);
}

ClipTokenizer::ClipTokenizer(const ClipTokenizerFiles& files, const ClipTokenizerLimits& limits)
    : ClipTokenizer(read_clip_tokenizer(files), limits) {}

ClipTokenizer::ClipTokenizer(ClipTokenizerParts parts, const ClipTokenizerLimits& limits)
    : bpe_(std::move(parts.vocabulary), parts.merges, contents(parts.config),
           parts.vocabulary_file),
      max_length_(kDefaultMaxLength),
      vocabulary_size_(bpe_.size()) {
  const ClipTokenizerConfig& config = parts.config;
  const std::string& folder = parts.folder;
  const auto num_added = static_cast<int64_t>(config.added.size());
  std::set<int32_t> behind;  // ids behind the vocabulary
  for (const auto& token : config.added) {
    const int32_t id = added_id(config, token.content, folder);
    if (id >= bpe_.size()) {
      if (id >= bpe_.size() + num_added || !behind.insert(id).second) {
        throw Error(
            Errc::kCorruptFile,
            fmt::format("{}: added token '{}' has id {}, which is taken or leaves a gap behind "
                        "the {} tokens of the vocabulary",
                        folder, token.content, id, bpe_.size()));
      }
      vocabulary_size_ = std::max<int64_t>(vocabulary_size_, id + 1);
    }
    const std::u32string text = decode_utf8(token.content);
    if (token.is_normalised) {
      normalised_tokens_.push_back({normalise(text), id});
    } else {
      raw_tokens_.push_back({text, id});
    }
  }
  begin_id_ = added_id(config, config.begin_token, folder);
  end_id_ = added_id(config, config.end_token, folder);
  pad_id_ = added_id(config, config.pad_token, folder);
  if (limits.embedding_rows > 0 && vocabulary_size_ > limits.embedding_rows) {
    throw Error(
        Errc::kCorruptFile,
        fmt::format("{}: {} tokens, but the text encoder has {} token embeddings; the tokenizer "
                    "belongs to another model",
                    folder, vocabulary_size_, limits.embedding_rows));
  }
  if (config.max_length) max_length_ = *config.max_length;
  if (limits.max_positions > 0) {
    max_length_ =
        config.max_length ? std::min(max_length_, limits.max_positions) : limits.max_positions;
  }
}

int32_t ClipTokenizer::added_id(const ClipTokenizerConfig& config, const std::string& content,
                                const std::string& where) const {
  const auto token = std::find_if(config.added.begin(), config.added.end(),
                                  [&content](const auto& t) { return t.content == content; });
  const auto in_vocabulary = bpe_.find(content);
  if (in_vocabulary) {
    if (token->id && token->id != in_vocabulary) {
      throw Error(Errc::kCorruptFile,
                  fmt::format("{}: added token '{}' has id {}, but vocab.json says {}", where,
                              content, *token->id, *in_vocabulary));
    }
    return *in_vocabulary;
  }
  if (!token->id) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: the vocabulary has no token '{}'", where, printable(content)));
  }
  if (*token->id < bpe_.size()) {
    throw Error(
        Errc::kCorruptFile,
        fmt::format("{}: added token '{}' has id {}, which vocab.json gives to another token",
                    where, content, *token->id));
  }
  return *token->id;
}

const ClipTokenizer::AddedToken* ClipTokenizer::match(const std::vector<AddedToken>& tokens,
                                                      std::u32string_view text) {
  const AddedToken* longest = nullptr;
  for (const AddedToken& token : tokens) {
    if (text.starts_with(token.content) &&
        (longest == nullptr || token.content.size() > longest->content.size())) {
      longest = &token;
    }
  }
  return longest;
}

std::vector<int32_t> ClipTokenizer::tokenize(std::string_view text) const {
  const std::u32string decoded = decode_utf8(text);
  const std::u32string_view all = decoded;
  std::vector<int32_t> ids;
  size_t piece = 0;
  for (size_t i = 0; i < all.size();) {
    const AddedToken* token = match(raw_tokens_, all.substr(i));
    if (token == nullptr) {
      ++i;
      continue;
    }
    tokenize_raw_piece(all.substr(piece, i - piece), ids);
    ids.push_back(token->id);
    i += token->content.size();
    piece = i;
  }
  tokenize_raw_piece(all.substr(piece), ids);
  return ids;
}

void ClipTokenizer::tokenize_raw_piece(std::u32string_view piece, std::vector<int32_t>& ids) const {
  const std::u32string text = normalise(piece);
  const std::u32string_view all = text;
  size_t words = 0;
  for (size_t i = 0; i < all.size();) {
    const AddedToken* token = match(normalised_tokens_, all.substr(i));
    if (token == nullptr) {
      ++i;
      continue;
    }
    tokenize_words(all.substr(words, i - words), ids);
    ids.push_back(token->id);
    i += token->content.size();
    words = i;
  }
  tokenize_words(all.substr(words), ids);
}

void ClipTokenizer::tokenize_words(std::u32string_view text, std::vector<int32_t>& ids) const {
  std::string word;
  size_t special_left = 0;  // characters left of a special token's text
  while (!text.empty()) {
    if (text[0] == U' ') {
      text.remove_prefix(1);
      continue;
    }
    if (special_left == 0) special_left = special_length(text);
    const size_t length = word_length(special_left > 0 ? text.substr(0, special_left) : text);
    special_left -= std::min(special_left, length);
    word.clear();
    for (char32_t c : text.substr(0, length)) append_utf8(c, word);
    bpe_.encode_word(word, ids);
    text.remove_prefix(length);
  }
}

ClipEncoding ClipTokenizer::encode(std::string_view prompt) const {
  const auto num_characters =
      static_cast<size_t>(std::count_if(prompt.begin(), prompt.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
      }));
  if (num_characters > kMaxPromptLength) {
    throw Error(Errc::kInvalidArgument, fmt::format("prompt: got {} characters, wanted at most {}",
                                                    num_characters, kMaxPromptLength));
  }
  if (const size_t nul = prompt.find('\0'); nul != std::string_view::npos) {
    throw Error(Errc::kInvalidArgument, fmt::format("prompt: NUL at byte {}; remove it", nul));
  }
  ClipEncoding result;
  std::vector<int32_t> content = tokenize(prompt);
  result.num_tokens = static_cast<int64_t>(content.size());
  const auto room = static_cast<size_t>(max_length_ - 2);
  if (content.size() > room) {
    const std::vector<int32_t> cut(content.begin() + static_cast<int64_t>(room), content.end());
    result.num_cut = static_cast<int64_t>(cut.size());
    result.cut_text = decode(cut);
    content.resize(room);
  }
  result.ids.push_back(begin_id_);
  result.ids.insert(result.ids.end(), content.begin(), content.end());
  result.ids.push_back(end_id_);
  result.ids.resize(static_cast<size_t>(max_length_), pad_id_);
  return result;
}

std::string ClipTokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  for (int32_t id : ids) {
    if (id < bpe_.size()) {
      text += bpe_.decode(id);
      continue;
    }
    for (const auto* tokens : {&raw_tokens_, &normalised_tokens_}) {
      for (const AddedToken& token : *tokens) {
        if (token.id != id) continue;
        for (char32_t c : token.content) append_utf8(c, text);
      }
    }
  }
  while (text.ends_with(' ')) text.pop_back();
  return text;
}

}  // namespace halftone::text
