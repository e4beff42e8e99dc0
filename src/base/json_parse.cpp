// The strict reader: nlohmann's tokenizer drives it, every rule beyond RFC 8259 is checked here.
#include <array>
#include <limits>
#include <span>
#include <unordered_set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/text.h"

namespace halftone {
namespace {

// Keys of one object; linear while few, hashed beyond.
class KeySet {
 public:
  // False when the key was there already.
  bool insert(const std::string& key) {
    if (!many_.empty()) return many_.insert(key).second;
    for (const std::string& k : few_) {
      if (k == key) return false;
    }
    few_.push_back(key);
    if (few_.size() > 16) many_.insert(few_.begin(), few_.end());
    return true;
  }

 private:
  std::vector<std::string> few_;
  std::unordered_set<std::string> many_;
};

bool is_number_part(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
         c == '-' || c == '.';
}

// A number of the document that strict JSON has no word for.
struct PythonNumber {
  size_t index;  // among all numbers of the document
  double value;
};

// Replaces NaN, Infinity and -Infinity outside of strings by 0 and spaces, so that offsets stay,
// and tells which numbers they were.
std::vector<PythonNumber> take_python_numbers(std::string& text) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr std::array<std::pair<std::string_view, double>, 3> kWords{
      {{"NaN", std::numeric_limits<double>::quiet_NaN()},
       {"Infinity", kInfinity},
       {"-Infinity", -kInfinity}}};
  std::vector<PythonNumber> found;
  size_t num_numbers = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\' ? 1U : 0U;
      continue;
    }
    if (!is_number_part(text[i])) continue;
    size_t end = i + 1;
    while (end < text.size() && is_number_part(text[end])) ++end;
    const std::string_view word = std::string_view(text).substr(i, end - i);
    bool is_number = word[0] == '-' || (word[0] >= '0' && word[0] <= '9');
    for (const auto& [name, value] : kWords) {
      if (word != name) continue;
      found.push_back({num_numbers, value});
      text.replace(i, end - i, std::string(end - i, ' ').replace(0, 1, "0"));
      is_number = true;
      break;
    }
    num_numbers += is_number ? 1 : 0;
    i = end - 1;
  }
  return found;
}

// Adapts nlohmann's SAX events. Exceptions thrown here pass through nlohmann, which is
// exception-safe.
class Sax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Sax(std::string_view where, const JsonLimits& limits, JsonHandler& handler,
      std::span<const PythonNumber> python_numbers)
      : where_(where), limits_(limits), handler_(handler), python_numbers_(python_numbers) {}

  bool null() override { return emit(Json()); }
  bool boolean(bool v) override { return emit(Json(v)); }
  // nlohmann reports signed integers only for literals with a minus sign, so zero here is "-0",
  // which is no integer by our rules.
  bool number_integer(number_integer_t v) override {
    return emit_number(v == 0 ? Json(-0.0) : Json(v));
  }
  bool number_unsigned(number_unsigned_t v) override { return emit_number(Json(v)); }
  bool number_float(number_float_t v, const string_t&) override { return emit_number(Json(v)); }
  bool string(string_t& v) override {
    refuse_nul(v);
    return emit(Json(std::move(v)));
  }
  bool binary(binary_t&) override { fail("binary values are not JSON"); }
  bool start_object(size_t) override {
    enter();
    keys_.emplace_back();
    handler_.begin_object();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    handler_.end_object();
    return true;
  }
  bool start_array(size_t) override {
    enter();
    handler_.begin_array();
    return true;
  }
  bool end_array() override {
    --depth_;
    handler_.end_array();
    return true;
  }
  bool key(string_t& v) override {
    refuse_nul(v);
    if (!keys_.back().insert(v)) fail(fmt::format("duplicate key '{}'", printable(v)));
    handler_.key(std::move(v));
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& e) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 3: reason" -> "reason"
    std::string_view reason = e.what();
    if (const size_t colon = reason.find(": "); colon != std::string_view::npos) {
      reason.remove_prefix(colon + 2);
    }
    throw Error(
        limits_.code,
        fmt::format("{}: invalid JSON at byte {}: {}", where_, position, printable(reason, 200)),
        ErrorDetails{.file = std::string(where_), .offset = position});
  }

 private:
  bool emit(Json value) {
    handler_.scalar(std::move(value));
    return true;
  }
  bool emit_number(Json value) {
    const bool is_python =
        !python_numbers_.empty() && python_numbers_.front().index == num_numbers_;
    ++num_numbers_;
    if (!is_python) return emit(std::move(value));
    const double v = python_numbers_.front().value;
    python_numbers_ = python_numbers_.subspan(1);
    return emit(Json::any_number(v));
  }
  void enter() {
    if (++depth_ > limits_.max_depth) {
      fail(fmt::format("JSON nested deeper than {} levels", limits_.max_depth));
    }
  }
  void refuse_nul(const std::string& text) {
    if (text.find('\0') != std::string::npos) fail("a string contains NUL (\\u0000)");
  }
  [[noreturn]] void fail(std::string_view text) {
    throw Error(limits_.code, fmt::format("{}: {}", where_, text),
                ErrorDetails{.file = std::string(where_)});
  }

  std::string_view where_;
  const JsonLimits& limits_;
  JsonHandler& handler_;
  std::span<const PythonNumber> python_numbers_;  // those still to come
  size_t num_numbers_ = 0;
  std::vector<KeySet> keys_;
  int depth_ = 0;
};

// Builds a value from the events.
class Builder final : public JsonHandler {
 public:
  void scalar(Json value) override { add(std::move(value)); }
  void key(std::string text) override { open_.back().key = std::move(text); }
  void begin_object() override { open_.push_back({Json::Object(), {}, {}, true}); }
  void begin_array() override { open_.push_back({{}, Json::Array(), {}, false}); }
  void end_object() override { close(); }
  void end_array() override { close(); }
  Json take() { return std::move(root_); }

 private:
  struct Open {
    Json::Object members;
    Json::Array items;
    std::string key;
    bool is_object;
  };
  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(done.is_object ? Json(std::move(done.members)) : Json(std::move(done.items)));
  }
  void add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Open& top = open_.back(); top.is_object) {
      top.members.emplace_back(std::move(top.key), std::move(value));
    } else {
      top.items.push_back(std::move(value));
    }
  }

  std::vector<Open> open_;
  Json root_;
};

}  // namespace

void parse_json(std::string_view text, std::string_view where, const JsonLimits& limits,
                JsonHandler& handler) {
  if (text.size() > limits.max_bytes) {
    throw Error(limits.code, fmt::format("{}: {} bytes of JSON, the limit is {}", where,
                                         text.size(), limits.max_bytes));
  }
  // nlohmann takes a NUL byte for the end of the input: what follows would go unseen.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(limits.code, fmt::format("{}: invalid JSON at byte {}: NUL byte", where, nul));
  }
  std::string strict;
  std::vector<PythonNumber> python_numbers;
  if (limits.python_numbers) {
    strict = text;
    python_numbers = take_python_numbers(strict);
    text = strict;
  }
  Sax sax(where, limits, handler, python_numbers);
  nlohmann::json::sax_parse(text.begin(), text.end(), &sax);
}

Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  Builder builder;
  parse_json(text, where, limits, builder);
  return builder.take();
}

}  // namespace halftone
