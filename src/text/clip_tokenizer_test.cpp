#include "text/clip_tokenizer.h"

#include <ctime>
#include <filesystem>
#include <functional>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "text/unicode.h"

namespace halftone::text {
namespace {

std::filesystem::path root() { return HALFTONE_SOURCE_DIR; }
std::filesystem::path golden(const std::string& name) {
  return root() / "tests/golden/tokenizer" / name;
}

const std::string kNulStandIn = "\U0010fffe";

std::vector<Json> read_lines(const std::string& name) {
  std::vector<Json> rows;
  const std::string text = read_text_file(golden(name));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    // Some strings hold NUL, which the strict reader refuses: see text_of.
    for (size_t at = line.find("\\u0000"); at != std::string::npos; at = line.find("\\u0000", at)) {
      line.replace(at, 6, kNulStandIn);
    }
    rows.push_back(parse_json(line, name));
  }
  return rows;
}

std::string text_of(const JsonView& row) {
  std::string text = row.at("text").string();
  for (size_t at = text.find(kNulStandIn); at != std::string::npos; at = text.find(kNulStandIn)) {
    text.replace(at, kNulStandIn.size(), 1, '\0');
  }
  return text;
}

std::vector<int32_t> ids_of(const JsonView& view) {
  const auto integers = view.integers();
  return {integers.begin(), integers.end()};
}

ClipTokenizerFiles folder_files(const std::filesystem::path& folder, const std::string& pad) {
  ClipTokenizerFiles files;
  files.folder = "tokenizer";
  files.vocab = read_text_file(folder / "vocab.json");
  files.merges = read_text_file(folder / "merges.txt");
  Json config = Json::object();
  config.set("tokenizer_class", "CLIPTokenizer").set("model_max_length", 77).set("pad_token", pad);
  files.tokenizer_config = to_text(config);
  return files;
}

ClipTokenizerFiles golden_files(const std::string& vocabulary, const std::string& pad) {
  return folder_files(vocabulary == "small" ? golden("small") : root() / "models/clip-bpe", pad);
}

const std::string kEnd = "<|endoftext|>";

std::vector<int32_t> with_ends(const ClipTokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids = tokenizer.tokenize(text);
  ids.insert(ids.begin(), tokenizer.begin_id());
  ids.push_back(tokenizer.end_id());
  return ids;
}

class ClipTokenizerGolden : public testing::TestWithParam<std::string> {};

TEST_P(ClipTokenizerGolden, EqualsHuggingFace) {
  const ClipTokenizer tokenizer(golden_files(GetParam(), kEnd));
  int num_different = 0;
  const std::vector<Json> rows = read_lines("strings.jsonl");
  EXPECT_GE(rows.size(), 10725U);
  for (const Json& json : rows) {
    const JsonView row(json, "strings.jsonl");
    const std::string text = text_of(row);
    const auto want = ids_of(row.at(GetParam()));
    if (with_ends(tokenizer, text) == want) continue;
    EXPECT_EQ(with_ends(tokenizer, text), want) << to_text(row.at("text").value());
    ASSERT_LT(++num_different, 10);
  }
}

TEST_P(ClipTokenizerGolden, EqualsHuggingFaceWithExclamationMarkAsPad) {
  const ClipTokenizer tokenizer(golden_files(GetParam(), "!"));
  for (const Json& json : read_lines("pad_bang.jsonl")) {
    const JsonView row(json, "pad_bang.jsonl");
    EXPECT_EQ(with_ends(tokenizer, text_of(row)), ids_of(row.at(GetParam())))
        << to_text(row.at("text").value());
  }
}

TEST_P(ClipTokenizerGolden, PadsAndCutsLikeHuggingFace) {
  int num_checked = 0;
  for (const Json& json : read_lines("padded.jsonl")) {
    const JsonView row(json, "padded.jsonl");
    if (row.at("vocab").string() != GetParam()) continue;
    const ClipTokenizer tokenizer(golden_files(GetParam(), row.at("pad").string()));
    EXPECT_EQ(tokenizer.encode(text_of(row)).ids, ids_of(row.at("ids")))
        << to_text(row.at("text").value());
    ++num_checked;
  }
  EXPECT_GT(num_checked, 5);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, ClipTokenizerGolden, testing::Values("small", "clip"));

TEST(ClipTokenizer, ReadsTheReleasedFolders) {
  const ClipTokenizer tokenizer = ClipTokenizer::load(root() / "models/clip-bpe");
  EXPECT_EQ(tokenizer.begin_id(), 49406);
  EXPECT_EQ(tokenizer.end_id(), 49407);
  EXPECT_EQ(tokenizer.pad_id(), 49407);
  EXPECT_EQ(tokenizer.max_length(), 77);
  EXPECT_EQ(tokenizer.vocabulary_size(), 49408);
}

// The spellings of the special tokens that released files use.
TEST(ClipTokenizer, TakesSpecialTokensFromEitherFile) {
  ClipTokenizerFiles files = golden_files("small", kEnd);
  files.tokenizer_config = R"({"bos_token":{"__type":"AddedToken","content":"<|startoftext|>",
      "normalized":true},"model_max_length":1000000000000000019884624838656,"errors":"replace"})";
  files.special_tokens_map = R"({"pad_token":{"content":"!","lstrip":false},"eos_token":"!!",
      "unk_token":"<|endoftext|>"})";
  files.added_tokens = R"({"!!":2014})";
  const ClipTokenizer tokenizer(files, {.max_positions = 20, .embedding_rows = 2015});
  EXPECT_EQ(tokenizer.pad_id(), 0);
  EXPECT_EQ(tokenizer.end_id(), 2014);
  EXPECT_EQ(tokenizer.vocabulary_size(), 2015);
  EXPECT_EQ(tokenizer.max_length(), 20);
  EXPECT_EQ(tokenizer.encode("a!!").ids,
            (std::vector<int32_t>{2012, 320, 2014, 2014, 0, 0, 0, 0, 0, 0,
                                  0,    0,   0,    0,    0, 0, 0, 0, 0, 0}));
}

TEST(ClipTokenizer, AcceptsByteOrderMarksAndCarriageReturns) {
  ClipTokenizerFiles files = golden_files("small", kEnd);
  const ClipTokenizer plain(files);
  std::string merges = "\xEF\xBB\xBF";
  for (char c : files.merges) merges += c == '\n' ? "\r\n" : std::string(1, c);
  files.merges = merges;
  files.vocab = "\xEF\xBB\xBF" + files.vocab;
  const ClipTokenizer windows(files);
  EXPECT_EQ(windows.tokenize("a small robot"), plain.tokenize("a small robot"));
}

TEST(ClipTokenizer, ReportsWhatWasCut) {
  const ClipTokenizer tokenizer(golden_files("clip", kEnd));
  std::string prompt;
  for (int i = 0; i < 75; ++i) prompt += "cat ";
  EXPECT_EQ(tokenizer.encode(prompt).num_cut, 0);
  EXPECT_EQ(tokenizer.encode(prompt).num_tokens, 75);
  const ClipEncoding cut = tokenizer.encode(prompt + "on a red Café chair!");
  EXPECT_EQ(cut.num_tokens, 81);
  EXPECT_EQ(cut.num_cut, 6);
  EXPECT_EQ(cut.cut_text, "on a red café chair !");
  EXPECT_EQ(cut.ids.size(), 77U);
  EXPECT_EQ(cut.ids.back(), tokenizer.end_id());
}

TEST(ClipTokenizer, HandlesExtremeTexts) {
  const ClipTokenizer tokenizer(golden_files("clip", kEnd));
  EXPECT_EQ(tokenizer.encode("").num_tokens, 0);
  EXPECT_EQ(tokenizer.encode(" \t\n\u3000").num_tokens, 0);
  EXPECT_GT(tokenizer.encode("\u202e\u200f\U0010ffff\U000e0000").num_tokens, 0);
  EXPECT_GT(tokenizer.encode(std::string(32000, 'x')).num_cut, 0);
  EXPECT_EQ(tokenizer.tokenize(std::string("a\0b", 3)).size(), 3U);
  const auto refused = [&tokenizer](const std::string& text, const std::string& message) {
    try {
      (void)tokenizer.encode(text);
      ADD_FAILURE() << "accepted; wanted: " << message;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    }
  };
  refused(std::string(32001, 'x'), "got 32001 characters");
  refused(std::string("ab\0c", 4), "NUL at byte 2");
  refused("caf\xe9", "malformed UTF-8 at byte 3");
  refused("\xed\xa0\x80", "malformed UTF-8 at byte 0");
}

// Time must grow about linearly: 10^5 characters of the worst kinds take well under a second.
TEST(ClipTokenizer, IsQuickOnLongTexts) {
  const ClipTokenizer tokenizer(golden_files("clip", kEnd));
  std::string marks = "a";
  std::string emoji;
  std::string quotes;
  std::string almost;
  for (int i = 0; i < 100000; ++i) {
    marks += i % 2 == 0 ? "\u0301" : "\u0323";
    if (i % 2 == 0) emoji += "\U0001F469\u200d";
    quotes += "'";
    if (i % 10 == 0) almost += "<|endoftex";
  }
  for (const std::string& text :
       {std::string(100000, 'a'), std::string(100000, '!'), std::string(100000, ' '),
        std::string(100000, '7'), marks, emoji, quotes, almost}) {
    const std::clock_t start = std::clock();  // of the processor: others may use it too
    (void)tokenizer.tokenize(text);
    EXPECT_LT(std::clock() - start, 3 * CLOCKS_PER_SEC) << text.substr(0, 10);
  }
}

struct BadCase {
  std::string name;
  std::function<void(ClipTokenizerFiles&)> spoil;
  std::string text;  // part of the message
  Errc code = Errc::kCorruptFile;
  ClipTokenizerLimits limits = {};
};

void PrintTo(const BadCase& c, std::ostream* out) { *out << c.name; }

void replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}

std::function<void(ClipTokenizerFiles&)> vocab(const std::string& from, const std::string& to) {
  return [=](ClipTokenizerFiles& files) { replace(files.vocab, from, to); };
}
std::function<void(ClipTokenizerFiles&)> config(const std::string& json) {
  return [=](ClipTokenizerFiles& files) { files.tokenizer_config = json; };
}

class BadTokenizerFiles : public testing::TestWithParam<BadCase> {};

TEST_P(BadTokenizerFiles, AreRefusedWithAReason) {
  ClipTokenizerFiles files = golden_files("small", kEnd);
  ASSERT_NO_THROW(ClipTokenizer{files});
  GetParam().spoil(files);
  try {
    const ClipTokenizer tokenizer(files, GetParam().limits);
    ADD_FAILURE() << "accepted; wanted: " << GetParam().text;
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.code()), to_string(GetParam().code)) << error.what();
    EXPECT_NE(std::string(error.what()).find(GetParam().text), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find("tokenizer"), 0U) << error.what();
  }
}

const std::vector<BadCase>& bad_cases() {
  static const std::vector<BadCase> kCases = {
      {"VocabEmpty", [](auto& f) { f.vocab = ""; }, "vocab.json"},
      {"VocabNotJson", [](auto& f) { f.vocab = "{\"a\":"; }, "vocab.json"},
      {"VocabArray", [](auto& f) { f.vocab = "[1,2]"; }, "got array, wanted an object"},
      {"VocabHuge", [](auto& f) { f.vocab.resize(100 << 20, ' '); }, "vocab.json"},
      {"VocabTruncated", [](auto& f) { f.vocab.resize(f.vocab.size() / 2); }, "vocab.json"},
      {"IdText", vocab("\"!\":0,", "\"!\":\"0\","), "token '!': wanted an id"},
      {"IdNegative", vocab("\"!\":0,", "\"!\":-1,"), "wanted an id from 0"},
      {"IdFraction", vocab("\"!\":0,", "\"!\":0.5,"), "wanted an id"},
      {"IdHuge", vocab("\"!\":0,", "\"!\":99999999999,"), "wanted an id"},
      {"IdGap", vocab("\"!\":0,", "\"!\":5000,"), "token '!' has id 5000, wanted 0 to 2013"},
      {"IdDuplicate", vocab("\"!\":0,", "\"!\":1,"), "'!' and '\"' have the same id 1"},
      {"TokenDuplicate", vocab("\"!\":0,", "\"!\":0,\"!\":0,"), "duplicate key"},
      {"TokenEmpty", vocab("\"!\":0,", "\"\":0,"), "the token of id 0 is empty"},
      {"ByteMissing", vocab("\"!\":0,", "\"zzq\":0,"), "byte 33 has no token '!'"},
      {"NoEndOfText", vocab("<|endoftext|>", "<|end|>"), "no merge makes token 2013"},
      {"NoStartOfText", vocab("<|startoftext|>", "<|start|>"), "no merge makes token 2012"},
      {"EndOfTextUnknown", config(R"({"eos_token":"<|fin|>","unk_token":"<|endoftext|>"})"),
       "has no token '<|fin|>'"},
      {"MergesMissing", [](auto& f) { f.merges = "#version: 0.2\n"; },
       "2014 tokens and 0 merges, but no merge makes token 512"},
      {"MergesTruncated", [](auto& f) { f.merges.resize(f.merges.find('\n', 9000) + 1); },
       "vocabulary and merges disagree"},
      {"MergeOneToken", [](auto& f) { f.merges += "abc\n"; }, "line 1502: got 'abc'"},
      {"MergeThreeTokens", [](auto& f) { f.merges += "a b c\n"; }, "line 1502"},
      {"MergeTwoSpaces", [](auto& f) { f.merges += "a  b\n"; }, "line 1502"},
      {"MergeLeadingSpace", [](auto& f) { f.merges += " a b\n"; }, "line 1502"},
      {"MergeBlankLine", [](auto& f) { replace(f.merges, "\n", "\n\n"); }, "line 2: got ''"},
      {"MergeDuplicate",
       [](auto& f) {
         const size_t first = f.merges.find('\n') + 1;
         f.merges += f.merges.substr(first, f.merges.find('\n', first) + 1 - first);
       },
       "is a duplicate"},
      {"MergeUnknownPiece", [](auto& f) { f.merges += "zzq a\n"; }, "merge 1501 'zzq a'"},
      {"MergeUnknownResult", [](auto& f) { f.merges += "! \"\n"; }, "has no token '!\"'"},
      {"MergesNotUtf8", [](auto& f) { f.merges += "a \xff\n"; }, "not valid UTF-8"},
      {"MergesTooMany",
       [](auto& f) {
         for (int i = 0; i < 1000000; ++i) f.merges += "a b\n";
       },
       "more than 1000000 merges"},
      {"ConfigNotObject", config("[]"), "tokenizer_config.json: got array"},
      {"ConfigClass", config(R"({"tokenizer_class":"T5Tokenizer"})"),
       "tokenizer_class 'T5Tokenizer'", Errc::kUnsupported},
      {"MaxLengthZero", config(R"({"model_max_length":0})"), "model_max_length"},
      {"MaxLengthNegative", config(R"({"model_max_length":-77})"), "model_max_length"},
      {"MaxLengthText", config(R"({"model_max_length":"77"})"), "model_max_length"},
      {"PadNumber", config(R"({"pad_token":7})"), "pad_token"},
      {"PadEmpty", config(R"({"pad_token":""})"), "the token is empty"},
      {"PadUnknown", config(R"({"pad_token":"[PAD]"})"), "has no token '[PAD]'"},
      {"AddedIdText", config(R"({"added_tokens_decoder":{"x1":{"content":"!"}}})"), "got id 'x1'"},
      {"AddedIdOther", config(R"({"added_tokens_decoder":{"5":{"content":"!"}}})"),
       "'!' has id 5, but vocab.json says 0"},
      {"AddedIdTaken", config(R"({"added_tokens_decoder":{"5":{"content":"new"}}})"),
       "'new' has id 5, which vocab.json gives to another token"},
      {"AddedIdFar", config(R"({"added_tokens_decoder":{"9999":{"content":"new"}}})"),
       "leaves a gap"},
      {"AddedIdShared",
       [](auto& f) {
         f.tokenizer_config = R"({"added_tokens_decoder":{"2014":{"content":"x1"}}})";
         f.added_tokens = R"({"x2":2014})";
       },
       "is taken"},
      {"AddedTwice",
       config(R"({"added_tokens_decoder":{"0":{"content":"!"},"1":{"content":"!"}}})"),
       "has two ids, 0 and 1"},
      {"AddedStrips", config(R"({"added_tokens_decoder":{"0":{"content":"!","lstrip":true}}})"),
       "lstrip is not supported", Errc::kUnsupported},
      {"AddedHuge", [](auto& f) { f.added_tokens = R"({"new":1e30})"; }, "added_tokens.json"},
      {"TooManyForTheModel",
       [](auto&) {},
       "2014 tokens, but the text encoder has 1000",
       Errc::kCorruptFile,
       {.embedding_rows = 1000}},
  };
  return kCases;
}

INSTANTIATE_TEST_SUITE_P(Cases, BadTokenizerFiles, testing::ValuesIn(bad_cases()),
                         [](const auto& param) { return param.param.name; });

class TokenizerFolder : public testing::Test {
 protected:
  void expect_error(Errc code, const std::string& text) const {
    try {
      (void)ClipTokenizer::load(folder_);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  }
  TemporaryFolder temporary_;
  std::filesystem::path folder_ = temporary_.path();
};

TEST_F(TokenizerFolder, WithoutVocabularyIsNotFound) {
  expect_error(Errc::kNotFound, "vocab.json");
}

// transformers 5 saves vocabulary, merges and special tokens in this one file.
std::string tokenizer_json(const std::string& pattern_end, bool has_pairs) {
  const ClipTokenizerFiles files = golden_files("small", kEnd);
  Json merge_list = Json::array();
  for (const auto& [left, right] : parse_merges(files.merges, "merges.txt")) {
    merge_list.push(has_pairs ? Json::array({left, right}) : Json(left + " " + right));
  }
  Json model = Json::object({{"type", "BPE"}, {"end_of_word_suffix", "</w>"}});
  model.set("vocab", parse_json(files.vocab, "vocab.json")).set("merges", merge_list);
  const Json split = Json::object(
      {{"type", "Split"},
       {"pattern",
        Json::object({{"Regex", R"(<\|startoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|)" +
                                    pattern_end}})}});
  Json json = Json::object({{"model", model}});
  json.set("pre_tokenizer", Json::object({{"pretokenizers", Json::array({split})}}));
  json.set("added_tokens",
           Json::array({Json::object({{"id", 0}, {"content", "!"}, {"normalized", false}}),
                        Json::object({{"id", 2012}, {"content", "<|startoftext|>"}})}));
  return to_text(json);
}

TEST_F(TokenizerFolder, WithOnlyTokenizerJsonIsRead) {
  for (const bool has_pairs : {true, false}) {
    write_file_atomically(folder_ / "tokenizer.json",
                          tokenizer_json(R"([^\s\p{L}\p{N}]+)", has_pairs));
    write_file_atomically(folder_ / "tokenizer_config.json", R"({"pad_token":"!"})");
    const ClipTokenizer tokenizer = ClipTokenizer::load(folder_);
    EXPECT_EQ(tokenizer.pad_id(), 0);
    const ClipTokenizer plain(golden_files("small", "!"));
    for (const char* text : {"a small robot's hat!", "wow!!! yes!", "<|startoftext|> Ünïcode 42"}) {
      EXPECT_EQ(tokenizer.tokenize(text), plain.tokenize(text)) << text;
    }
  }
}

TEST_F(TokenizerFolder, WithAnotherSplitPatternIsRefused) {
  write_file_atomically(folder_ / "tokenizer.json", tokenizer_json(R"(\S+)", true));
  expect_error(Errc::kUnsupported, "wanted CLIP's pattern");
}

TEST_F(TokenizerFolder, WithAnEmptyTokenizerJsonIsCorrupt) {
  write_file_atomically(folder_ / "tokenizer.json", "{}");
  expect_error(Errc::kCorruptFile, "tokenizer.json: key 'model'");
}

TEST_F(TokenizerFolder, WithoutMergesIsNotFound) {
  write_file_atomically(folder_ / "vocab.json", "{}");
  expect_error(Errc::kNotFound, "merges.txt");
}

}  // namespace
}  // namespace halftone::text
