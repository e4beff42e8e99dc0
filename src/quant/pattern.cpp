#include "quant/pattern.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/text.h"

namespace halftone::quant {
namespace {

constexpr size_t kUnset = std::numeric_limits<size_t>::max();
constexpr int kMaxRepeat = 64;
constexpr int kMaxDepth = 64;
constexpr size_t kMaxLength = 4096;

using Set = std::vector<bool>;

void add_range(Set& set, unsigned char first, unsigned char last) {
  for (size_t c = first; c <= last; ++c) set[c] = true;
}

bool add_class(Set& set, char name) {
  if (name != 'd' && name != 'w') return false;
  add_range(set, '0', '9');
  if (name == 'w') {
    add_range(set, 'a', 'z');
    add_range(set, 'A', 'Z');
    set['_'] = true;
  }
  return true;
}

}  // namespace

// Thompson's construction: each piece of the pattern is a fragment whose open ends are patched to
// what follows.
class PatternParser {
 public:
  using State = Pattern::State;
  using Kind = State::Kind;

  explicit PatternParser(Pattern& pattern) : pattern_(pattern), text_(pattern.text_) {}

  void run() {
    if (text_.size() > kMaxLength) fail("is longer than 4096 characters");
    const Fragment whole = alternatives(0);
    if (at_ < text_.size()) fail("has a ) without (");
    patch(whole, state({Kind::kMatch}));
    pattern_.start_ = whole.start;
  }

 private:
  // Open ends: state and whether it is the second branch.
  struct Fragment {
    size_t start;
    std::vector<std::pair<size_t, bool>> ends;
  };

  [[noreturn]] void fail(std::string_view what) const {
    throw Error(Errc::kInvalidArgument,
                fmt::format("pattern '{}': {} (at {})", printable(text_), what, at_));
  }
  [[nodiscard]] bool done() const { return at_ >= text_.size(); }
  [[nodiscard]] bool is_next(char c) const { return !done() && text_[at_] == c; }

  size_t state(State s) {
    if (pattern_.states_.size() >= Pattern::kMaxStates) fail("is too large");
    pattern_.states_.push_back(std::move(s));
    return pattern_.states_.size() - 1;
  }
  void patch(const Fragment& fragment, size_t to) {
    for (const auto& [from, second] : fragment.ends) {
      (second ? pattern_.states_[from].other : pattern_.states_[from].next) = to;
    }
  }
  Fragment single(State s) {
    const size_t id = state(std::move(s));
    return {id, {{id, false}}};
  }
  // A state that only goes on: a split whose branches agree.
  Fragment empty() {
    const size_t id = state({Kind::kSplit});
    return {id, {{id, false}, {id, true}}};
  }

  Fragment alternatives(int depth) {
    if (depth > kMaxDepth) fail("is nested too deeply");
    Fragment result = sequence(depth);
    while (is_next('|')) {
      ++at_;
      const Fragment other = sequence(depth);
      const size_t split = state({Kind::kSplit, result.start, other.start, {}});
      result.start = split;
      result.ends.insert(result.ends.end(), other.ends.begin(), other.ends.end());
    }
    return result;
  }

  Fragment sequence(int depth) {
    std::optional<Fragment> result;
    while (!done() && text_[at_] != '|' && text_[at_] != ')') {
      Fragment next = repeated(depth);
      if (result) {
        patch(*result, next.start);
        result->ends = std::move(next.ends);
      } else {
        result = std::move(next);
      }
    }
    return result ? std::move(*result) : empty();
  }

  // An atom with its repetition; {m,n} parses the atom again for each copy.
  Fragment repeated(int depth) {
    const size_t begin = at_;
    Fragment one = atom(depth);
    if (done()) return one;
    if (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?') {
      const char c = text_[at_++];
      return c == '*' ? star(one) : c == '+' ? plus(one) : optional(one);
    }
    if (text_[at_] != '{') return one;
    const auto [least, most] = counts();
    const size_t end = at_;
    const auto copy = [&] {
      at_ = begin;
      Fragment again = atom(depth);
      at_ = end;
      return again;
    };
    return copies(one, least, most, copy);
  }

  template <class Copy>
  Fragment copies(const Fragment& one, int least, std::optional<int> most, Copy copy) {
    Fragment result = empty();
    const auto join = [&](const Fragment& next) {
      patch(result, next.start);
      result.ends = next.ends;
    };
    for (int i = 0; i < least; ++i) join(i == 0 ? one : copy());
    if (!most) join(star(least == 0 ? one : copy()));
    for (int i = least; most && i < *most; ++i) join(optional(i == 0 ? one : copy()));
    return result;
  }

  Fragment star(const Fragment& one) {
    const size_t split = state({Kind::kSplit, one.start, kUnset, {}});
    patch(one, split);
    return {split, {{split, true}}};
  }
  Fragment plus(const Fragment& one) {
    const size_t split = state({Kind::kSplit, one.start, kUnset, {}});
    patch(one, split);
    return {one.start, {{split, true}}};
  }
  Fragment optional(const Fragment& one) {
    const size_t split = state({Kind::kSplit, one.start, kUnset, {}});
    Fragment result{split, one.ends};
    result.ends.emplace_back(split, true);
    return result;
  }

  std::pair<int, std::optional<int>> counts() {
    ++at_;
    const int least = number();
    if (is_next('}')) {
      ++at_;
      return {least, least};
    }
    if (!is_next(',')) fail("wants {m}, {m,} or {m,n}");
    ++at_;
    std::optional<int> most;
    if (!is_next('}')) most = number();
    if (!is_next('}') || (most && *most < least)) fail("wants {m}, {m,} or {m,n}");
    ++at_;
    return {least, most};
  }

  int number() {
    int value = 0;
    const size_t begin = at_;
    for (; !done() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value > kMaxRepeat) fail("repeats more than 64 times");
    }
    if (at_ == begin) fail("wants {m}, {m,} or {m,n}");
    return value;
  }

  Fragment atom(int depth) {
    const char c = text_[at_++];
    switch (c) {
      case '^':
        return single({Kind::kBegin});
      case '$':
        return single({Kind::kEnd});
      case '(':
        return group(depth);
      case '*':
      case '+':
      case '?':
      case '{':
        fail("repeats nothing");
      default:
        break;
    }
    State s{Kind::kSet, 0, 0, Set(256, false)};
    if (c == '.') {
      s.set.assign(256, true);
    } else if (c == '[') {
      s.set = bracket();
    } else if (c == '\\') {
      escape(s.set);
    } else {
      s.set[static_cast<unsigned char>(c)] = true;
    }
    return single(std::move(s));
  }

  Fragment group(int depth) {
    if (is_next('?')) {
      if (at_ + 1 >= text_.size() || text_[at_ + 1] != ':') fail("knows (?: only, no look-around");
      at_ += 2;
    }
    const Fragment inside = alternatives(depth + 1);
    if (!is_next(')')) fail("has a ( without )");
    ++at_;
    return inside;
  }

  void escape(Set& set) {
    if (done()) fail("ends in a backslash");
    const char c = text_[at_++];
    if (add_class(set, c)) return;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter) fail("has an unknown escape");
    set[static_cast<unsigned char>(c)] = true;
  }

  Set bracket() {
    Set set(256, false);
    const bool negated = is_next('^');
    if (negated) ++at_;
    bool first = true;
    while (first || !is_next(']')) {
      if (done()) fail("has a [ without ]");
      first = false;
      if (text_[at_] == '\\') {
        ++at_;
        escape(set);
        continue;
      }
      const auto low = static_cast<unsigned char>(text_[at_++]);
      auto high = low;
      if (is_next('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        high = static_cast<unsigned char>(text_[at_ + 1]);
        at_ += 2;
      }
      if (high < low) fail("has a range that runs backwards");
      add_range(set, low, high);
    }
    ++at_;
    if (negated) set.flip();
    return set;
  }

  Pattern& pattern_;
  const std::string& text_;
  size_t at_ = 0;
};

Pattern::Pattern(std::string_view text) : text_(text) { PatternParser(*this).run(); }

// Adds a state and all that it reaches without a character.
void Pattern::add(std::vector<bool>& active, std::vector<size_t>& list, size_t state, size_t at,
                  size_t size) const {
  std::vector<size_t> open{state};
  while (!open.empty()) {
    const size_t id = open.back();
    open.pop_back();
    if (active[id]) continue;
    active[id] = true;
    const State& s = states_[id];
    switch (s.kind) {
      case State::Kind::kSplit:
        open.push_back(s.next);
        open.push_back(s.other);
        break;
      case State::Kind::kBegin:
        if (at == 0) open.push_back(s.next);
        break;
      case State::Kind::kEnd:
        if (at == size) open.push_back(s.next);
        break;
      default:
        list.push_back(id);
    }
  }
}

bool Pattern::search(std::string_view name) const {
  std::vector<size_t> now, next;
  std::vector<bool> active(states_.size(), false);
  for (size_t at = 0;; ++at) {
    add(active, now, start_, at, name.size());  // a match may begin anywhere
    const auto matches = [&](size_t id) { return states_[id].kind == State::Kind::kMatch; };
    if (std::ranges::any_of(now, matches)) return true;
    if (at == name.size()) return false;
    next.clear();
    active.assign(states_.size(), false);
    for (const size_t id : now) {
      if (states_[id].set[static_cast<unsigned char>(name[at])]) {
        add(active, next, states_[id].next, at + 1, name.size());
      }
    }
    std::swap(now, next);
  }
}

}  // namespace halftone::quant
