// Byte-pair encoding over CLIP's byte alphabet: a vocabulary, ranked merges, and their application.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace halftone::text {

// Immutable after construction; safe to use from several threads.
class Bpe {
 public:
  using Merge = std::pair<std::string, std::string>;

  // `vocabulary`: token text -> id, ids are 0 .. n-1. `merges` in order of rank. `added` are tokens
  // that no merge makes (begin and end of text). `where` names the files in errors. Throws
  // kCorruptFile when ids have gaps or repeat, a byte has no token, a merge repeats or uses or
  // makes an unknown token, or a token can never be made.
  Bpe(std::unordered_map<std::string, int32_t> vocabulary, const std::vector<Merge>& merges,
      const std::vector<std::string>& added, std::string_view where);

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  [[nodiscard]] std::optional<int32_t> find(const std::string& token) const;
  // Appends the ids of one word, given as its UTF-8 bytes; not empty. O(n log n).
  void encode_word(std::string_view word, std::vector<int32_t>& ids) const;
  // Bytes of a token; a word's last token ends with a space.
  [[nodiscard]] std::string decode(int32_t id) const;

 private:
  struct MergeRule {
    int32_t rank;
    int32_t result;
  };
  static uint64_t key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
  }
  void add_merges(const std::vector<Merge>& merges, std::string_view where);
  void check_reachable(const std::vector<std::string>& added, std::string_view where) const;

  std::unordered_map<std::string, int32_t> ids_;
  std::vector<std::string> tokens_;
  std::unordered_map<uint64_t, MergeRule> merges_;
  std::vector<int32_t> byte_ids_;       // token of a byte inside a word
  std::vector<int32_t> last_byte_ids_;  // of a word's last byte
};

// Parses merges.txt: an optional "#version" line, then "left right" a line; CRLF and a byte order
// mark are accepted. Throws kCorruptFile with the line number.
[[nodiscard]] std::vector<Bpe::Merge> parse_merges(std::string_view text, std::string_view where);

}  // namespace halftone::text
