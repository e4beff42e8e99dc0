#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_set>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/text.h"
#include "text/unicode.h"

namespace halftone::text {
namespace {

constexpr size_t kMaxMerges = 1000000;
constexpr std::string_view kEndOfWord = "</w>";

[[noreturn]] void corrupt(std::string_view where, const std::string& text) {
  throw Error(Errc::kCorruptFile, fmt::format("{}: {}", where, text));
}

// CLIP's printable stand-in for each byte, as UTF-8.
std::array<std::string, 256> byte_symbols() {
  std::array<std::string, 256> symbols;
  char32_t next = 256;
  for (size_t byte = 0; byte < symbols.size(); ++byte) {
    const bool is_printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    append_utf8(is_printable ? static_cast<char32_t>(byte) : next++, symbols[byte]);
  }
  return symbols;
}

// A word being merged: a list of token ids linked by position.
struct Symbol {
  int32_t id;
  int32_t previous;
  int32_t next;  // -1 at the ends
  bool is_alive = true;
};

struct Candidate {
  int32_t rank;
  int32_t position;  // of the left symbol
  int32_t result;
  // Lowest rank first, then leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

Bpe::Bpe(std::unordered_map<std::string, int32_t> vocabulary, const std::vector<Merge>& merges,
         const std::vector<std::string>& added, std::string_view where)
    : ids_(std::move(vocabulary)), tokens_(ids_.size()) {
  for (const auto& [token, id] : ids_) {
    if (id < 0 || static_cast<size_t>(id) >= tokens_.size()) {
      corrupt(where,
              fmt::format("token '{}' has id {}, wanted 0 to {}: the ids of the {} tokens have "
                          "a gap",
                          printable(token), id, static_cast<int64_t>(tokens_.size()) - 1,
                          tokens_.size()));
    }
    std::string& slot = tokens_[static_cast<size_t>(id)];
    if (!slot.empty()) {
      corrupt(where,
              fmt::format("tokens '{}' and '{}' have the same id {}",
                          printable(std::min(slot, token)), printable(std::max(slot, token)), id));
    }
    if (token.empty()) corrupt(where, fmt::format("the token of id {} is empty", id));
    slot = token;
  }
  for (const std::string& symbol : byte_symbols()) {
    for (auto* list : {&byte_ids_, &last_byte_ids_}) {
      const std::string token = list == &byte_ids_ ? symbol : symbol + std::string(kEndOfWord);
      const auto id = find(token);
      if (!id) {
        corrupt(where, fmt::format("byte {} has no token '{}'; wanted CLIP's 512 byte tokens",
                                   byte_ids_.size(), token));
      }
      list->push_back(*id);
    }
  }
  add_merges(merges, where);
  check_reachable(added, where);
}

void Bpe::add_merges(const std::vector<Merge>& merges, std::string_view where) {
  const auto known = [&](const std::string& token, size_t rank) {
    const auto id = find(token);
    if (!id) {
      corrupt(where, fmt::format("merge {} '{} {}': the vocabulary has no token '{}'", rank + 1,
                                 printable(merges[rank].first), printable(merges[rank].second),
                                 printable(token)));
    }
    return *id;
  };
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const MergeRule rule = {static_cast<int32_t>(rank), known(left + right, rank)};
    if (!merges_.emplace(key(known(left, rank), known(right, rank)), rule).second) {
      corrupt(where, fmt::format("merge {} '{} {}' is a duplicate", rank + 1, printable(left),
                                 printable(right)));
    }
  }
}

void Bpe::check_reachable(const std::vector<std::string>& added, std::string_view where) const {
  std::vector<bool> is_reachable(tokens_.size());
  const auto reach = [&is_reachable](int32_t id) { is_reachable[static_cast<size_t>(id)] = true; };
  for (int32_t id : byte_ids_) reach(id);
  for (int32_t id : last_byte_ids_) reach(id);
  for (const auto& [pair, rule] : merges_) reach(rule.result);
  for (const std::string& token : added) {
    if (const auto id = find(token)) reach(*id);
  }
  const auto first = std::find(is_reachable.begin(), is_reachable.end(), false);
  if (first == is_reachable.end()) return;
  const auto id = static_cast<size_t>(first - is_reachable.begin());
  corrupt(where,
          fmt::format("vocabulary and merges disagree: {} tokens and {} merges, but no merge "
                      "makes token {} '{}'",
                      tokens_.size(), merges_.size(), id, printable(tokens_[id])));
}

std::optional<int32_t> Bpe::find(const std::string& token) const {
  const auto it = ids_.find(token);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

void Bpe::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
  const auto n = static_cast<int32_t>(word.size());
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (int32_t i = 0; i < n; ++i) {
    const auto byte = static_cast<unsigned char>(word[static_cast<size_t>(i)]);
    const auto& table = i + 1 < n ? byte_ids_ : last_byte_ids_;
    symbols.push_back({table[byte], i - 1, i + 1 < n ? i + 1 : -1});
  }
  const auto at = [&symbols](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int32_t left) {
    if (left < 0 || at(left).next < 0) return;
    const auto it = merges_.find(key(at(left).id, at(at(left).next).id));
    if (it != merges_.end()) queue.push({it->second.rank, left, it->second.result});
  };
  for (int32_t i = 0; i + 1 < n; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = at(best.position);
    if (!left.is_alive || left.next < 0) continue;
    Symbol& right = at(left.next);
    // Either symbol may have been merged since; then this candidate is stale.
    const auto it = merges_.find(key(left.id, right.id));
    if (it == merges_.end() || it->second.result != best.result) continue;
    left.id = best.result;
    left.next = right.next;
    right.is_alive = false;
    if (left.next >= 0) at(left.next).previous = best.position;
    offer(left.previous);
    offer(best.position);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.is_alive) ids.push_back(symbol.id);
  }
}

std::string Bpe::decode(int32_t id) const {
  static const std::unordered_map<char32_t, char> kBytes = [] {
    std::unordered_map<char32_t, char> bytes;
    const auto symbols = byte_symbols();
    for (size_t byte = 0; byte < symbols.size(); ++byte) {
      bytes[decode_utf8(symbols[byte])[0]] = static_cast<char>(byte);
    }
    return bytes;
  }();
  std::string_view token = tokens_[static_cast<size_t>(id)];
  const bool is_last = token.size() > kEndOfWord.size() && token.ends_with(kEndOfWord);
  if (is_last) token.remove_suffix(kEndOfWord.size());
  std::string bytes;
  for (char32_t c : decode_utf8(token)) {
    const auto it = kBytes.find(c);
    if (it == kBytes.end()) return std::string(token);  // an added token, not made of bytes
    bytes.push_back(it->second);
  }
  if (is_last) bytes.push_back(' ');
  return bytes;
}

std::vector<Bpe::Merge> parse_merges(std::string_view text, std::string_view where) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (!is_utf8(text)) corrupt(where, "is not valid UTF-8");
  std::vector<Bpe::Merge> merges;
  for (size_t line_number = 1; !text.empty(); ++line_number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line_number == 1 && line.starts_with("#version")) continue;
    if (line.empty() && text.empty()) break;
    const size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      corrupt(where, fmt::format("line {}: got '{}', wanted two tokens with one space between",
                                 line_number, printable(line, 60)));
    }
    if (merges.size() == kMaxMerges) {
      corrupt(where, fmt::format("more than {} merges", kMaxMerges));
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

}  // namespace halftone::text
