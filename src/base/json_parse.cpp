// The strict reader: nlohmann's tokenizer drives it, every rule beyond RFC 8259 is checked here.
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

// Adapts nlohmann's SAX events. Exceptions thrown here pass through nlohmann, which is
// exception-safe.
class Sax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Sax(std::string_view where, const JsonLimits& limits, JsonHandler& handler)
      : where_(where), limits_(limits), handler_(handler) {}

  bool null() override { return emit(Json()); }
  bool boolean(bool v) override { return emit(Json(v)); }
  // nlohmann reports signed integers only for literals with a minus sign, so zero here is "-0",
  // which is no integer by our rules.
  bool number_integer(number_integer_t v) override { return emit(v == 0 ? Json(-0.0) : Json(v)); }
  bool number_unsigned(number_unsigned_t v) override { return emit(Json(v)); }
  bool number_float(number_float_t v, const string_t&) override { return emit(Json(v)); }
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
    fail(fmt::format("invalid JSON at byte {}: {}", position, printable(reason, 200)));
  }

 private:
  bool emit(Json value) {
    handler_.scalar(std::move(value));
    return true;
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
    throw Error(limits_.code, fmt::format("{}: {}", where_, text));
  }

  std::string_view where_;
  const JsonLimits& limits_;
  JsonHandler& handler_;
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
  Sax sax(where, limits, handler);
  nlohmann::json::sax_parse(text.begin(), text.end(), &sax);
}

Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  Builder builder;
  parse_json(text, where, limits, builder);
  return builder.take();
}

}  // namespace halftone
