#include "text/clip_tokenizer_config.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/json.h"

namespace halftone::text {
namespace {

constexpr int64_t kMaxId = 1 << 24;
constexpr size_t kMaxAddedTokens = 256;  // each is compared at every position of a text

// The documents that may name special tokens, strongest first.
struct Documents {
  Json tokenizer_config = Json::object();
  Json special_tokens_map = Json::object();
};

Json parse_optional(const std::string& text, const std::string& where) {
  if (text.empty()) return Json::object();
  Json json = parse_json(text, where);
  if (!json.is_object()) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: got {}, wanted an object", where, json.kind_name()));
  }
  return json;
}

// A token is a string, or an object with its text as "content".
std::string token_content(const JsonView& view) {
  std::string content = view.value().is_object() ? view.at("content").string() : view.string();
  if (content.empty()) view.fail("the token is empty");
  return content;
}

ClipTokenizerConfig::AddedToken read_added_token(const JsonView& token, int32_t id) {
  const std::string content = token_content(token);
  for (std::string_view flag : {"lstrip", "rstrip", "single_word"}) {
    if (!token.boolean_or(flag, false)) continue;
    throw Error(Errc::kUnsupported, fmt::format("{}: added token '{}': {} is not supported",
                                                token.file(), content, flag));
  }
  return {content, id, token.boolean_or("normalized", false)};
}

class Reader {
 public:
  explicit Reader(const ClipTokenizerFiles& files) : files_(files) {
    documents_.tokenizer_config =
        parse_optional(files.tokenizer_config, files.folder + "/tokenizer_config.json");
    documents_.special_tokens_map =
        parse_optional(files.special_tokens_map, files.folder + "/special_tokens_map.json");
  }

  // `tokens` are those of tokenizer.json.
  ClipTokenizerConfig read(const std::vector<ClipTokenizerConfig::AddedToken>& tokens) {
    check_class();
    config_.begin_token = special("bos_token", config_.begin_token);
    config_.end_token = special("eos_token", config_.end_token);
    config_.pad_token = special("pad_token", config_.end_token);
    // transformers looks for the begin token in the normalised text, for the others in the raw one.
    add({config_.begin_token, std::nullopt, true});
    add({config_.end_token, std::nullopt, false});
    add({config_.pad_token, std::nullopt, false});
    add({special("unk_token", config_.end_token), std::nullopt, false});
    read_added_tokens_decoder();
    read_added_tokens();
    for (const auto& token : tokens) add(token);
    read_max_length();
    return config_;
  }

 private:
  [[nodiscard]] JsonView tokenizer_config() const {
    return {documents_.tokenizer_config, files_.folder + "/tokenizer_config.json"};
  }

  [[nodiscard]] std::string special(std::string_view key, const std::string& fallback) const {
    const JsonView map(documents_.special_tokens_map, files_.folder + "/special_tokens_map.json");
    for (const JsonView& document : {tokenizer_config(), map}) {
      if (document.has(key)) return token_content(document.at(key));
    }
    return fallback;
  }

  void check_class() const {
    const std::string name = tokenizer_config().string_or("tokenizer_class", "CLIPTokenizer");
    if (name == "CLIPTokenizer" || name == "CLIPTokenizerFast") return;
    throw Error(
        Errc::kUnsupported,
        fmt::format("{}/tokenizer_config.json: tokenizer_class '{}' is not supported; wanted "
                    "CLIPTokenizer",
                    files_.folder, name));
  }

  // Adds a token; one that is known keeps its way of matching and learns its id.
  void add(const ClipTokenizerConfig::AddedToken& token) {
    const auto known = std::find_if(config_.added.begin(), config_.added.end(),
                                    [&](const auto& t) { return t.content == token.content; });
    if (known == config_.added.end()) {
      if (config_.added.size() == kMaxAddedTokens) {
        throw Error(Errc::kUnsupported,
                    fmt::format("{}: more than {} added tokens", files_.folder, kMaxAddedTokens));
      }
      config_.added.push_back(token);
      return;
    }
    if (!token.id) return;
    if (known->id && known->id != token.id) {
      throw Error(Errc::kCorruptFile,
                  fmt::format("{}: added token '{}' has two ids, {} and {}", files_.folder,
                              token.content, *known->id, *token.id));
    }
    known->id = token.id;
  }

  void read_added_tokens_decoder() {
    const auto decoder = tokenizer_config().find("added_tokens_decoder");
    if (!decoder) return;
    for (const auto& [key, token] : decoder->members()) {
      int32_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > kMaxId) {
        token.fail(fmt::format("got id '{}', wanted 0 to {}", key, kMaxId));
      }
      for (std::string_view flag : {"lstrip", "rstrip", "single_word"}) {
        if (token.boolean_or(flag, false)) {
          throw Error(Errc::kUnsupported, fmt::format("{}: added token '{}': {} is not supported",
                                                      token.file(), token_content(token), flag));
        }
      }
      add({token_content(token), id, token.boolean_or("normalized", false)});
    }
  }

  void read_added_tokens() {
    const std::string where = files_.folder + "/added_tokens.json";
    const Json json = parse_optional(files_.added_tokens, where);
    for (const auto& [content, id] : JsonView(json, where).members()) {
      add({content, static_cast<int32_t>(id.integer(0, kMaxId)), true});
    }
  }

  // transformers writes 10^30 for "no limit".
  void read_max_length() {
    const auto length = tokenizer_config().find("model_max_length");
    if (!length) return;
    const double value = length->number();
    if (!(value >= 3)) length->fail(fmt::format("got {}, wanted at least 3", value));
    if (value < 1e9) config_.max_length = static_cast<int64_t>(value);
  }

  const ClipTokenizerFiles& files_;
  Documents documents_;
  ClipTokenizerConfig config_;
};

std::unordered_map<std::string, int32_t> read_vocabulary(const Json& json,
                                                         const std::string& where) {
  if (!json.is_object()) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: got {}, wanted an object of token: id", where, json.kind_name()));
  }
  std::unordered_map<std::string, int32_t> vocabulary;
  const Json::Object& members = *json.if_object();
  vocabulary.reserve(members.size());
  for (const auto& [token, id] : members) {
    const auto value = id.if_integer();
    if (!value || *value < 0 || *value > kMaxId) {
      JsonView(id, where).fail(fmt::format("token '{}': wanted an id from 0 to {}", token, kMaxId));
    }
    vocabulary.emplace(token, static_cast<int32_t>(*value));
  }
  return vocabulary;
}

// The parts of tokenizer.json that this tokenizer builds in: refuses a file that says otherwise.
void check_pipeline(const JsonView& file) {
  const JsonView model = file.at("model");
  if (model.string_or("type", "BPE") != "BPE" ||
      model.string_or("end_of_word_suffix", "") != "</w>") {
    throw Error(Errc::kUnsupported,
                fmt::format("{}: wanted a BPE model with end_of_word_suffix '</w>'", file.file()));
  }
  constexpr std::string_view kPattern =
      R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
  const auto steps = file.at("pre_tokenizer").at("pretokenizers").items();
  if (steps.empty() || !steps[0].at("pattern").at("Regex").string().ends_with(kPattern)) {
    throw Error(Errc::kUnsupported,
                fmt::format("{}: wanted CLIP's pattern in pre_tokenizer", file.file()));
  }
}

std::vector<Bpe::Merge> read_merge_list(const JsonView& list) {
  std::string lines;
  for (const JsonView& merge : list.items()) {
    if (merge.value().is_array()) {
      const auto parts = merge.strings();
      for (const std::string& part : parts) lines += part + (&part == &parts.back() ? "" : " ");
    } else {
      lines += merge.string();
    }
    lines += '\n';
  }
  return parse_merges(lines, list.file());
}

void read_tokenizer_json(const ClipTokenizerFiles& files, ClipTokenizerParts& parts,
                         std::vector<ClipTokenizerConfig::AddedToken>& tokens) {
  parts.vocabulary_file = files.folder + "/tokenizer.json";
  const Json json = parse_json(files.tokenizer_json, parts.vocabulary_file);
  const JsonView file(json, parts.vocabulary_file);
  check_pipeline(file);
  const JsonView model = file.at("model");
  parts.vocabulary = read_vocabulary(model.at("vocab").value(), parts.vocabulary_file);
  parts.merges = read_merge_list(model.at("merges"));
  for (const JsonView& token : file.at("added_tokens").items()) {
    tokens.push_back(
        read_added_token(token, static_cast<int32_t>(token.at("id").integer(0, kMaxId))));
  }
}

}  // namespace

ClipTokenizerParts read_clip_tokenizer(const ClipTokenizerFiles& files) {
  ClipTokenizerParts parts;
  parts.folder = files.folder;
  std::vector<ClipTokenizerConfig::AddedToken> tokens;
  if (files.vocab.empty() && !files.tokenizer_json.empty()) {
    read_tokenizer_json(files, parts, tokens);
  } else {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    std::string_view text = files.vocab;
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    parts.vocabulary_file = files.folder + "/vocab.json";
    parts.vocabulary =
        read_vocabulary(parse_json(text, parts.vocabulary_file), parts.vocabulary_file);
    parts.merges = parse_merges(files.merges, files.folder + "/merges.txt");
  }
  parts.config = Reader(files).read(tokens);
  return parts;
}

}  // namespace halftone::text
