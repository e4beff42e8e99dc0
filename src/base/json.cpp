#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "base/text.h"

namespace halftone {

Json::Json(double value) {
  if (std::isfinite(value)) value_ = value;
}

Json Json::any_number(double value) {
  Json json;
  json.value_ = value;
  return json;
}

Json::Json(float value) {
  if (std::isfinite(value)) value_ = std::strtod(fmt::format("{}", value).c_str(), nullptr);
}

std::optional<int64_t> Json::if_integer() const {
  if (const auto* v = std::get_if<int64_t>(&value_)) return *v;
  return std::nullopt;
}

std::optional<uint64_t> Json::if_unsigned() const {
  if (const auto* v = std::get_if<uint64_t>(&value_)) return *v;
  if (const auto* v = std::get_if<int64_t>(&value_); v != nullptr && *v >= 0) {
    return static_cast<uint64_t>(*v);
  }
  return std::nullopt;
}

std::optional<double> Json::if_number() const {
  if (const auto* v = std::get_if<double>(&value_)) return *v;
  if (const auto* v = std::get_if<int64_t>(&value_)) return static_cast<double>(*v);
  if (const auto* v = std::get_if<uint64_t>(&value_)) return static_cast<double>(*v);
  return std::nullopt;
}

std::string_view Json::kind_name() const {
  struct Name {
    std::string_view operator()(std::monostate) const { return "null"; }
    std::string_view operator()(bool) const { return "boolean"; }
    std::string_view operator()(int64_t) const { return "integer"; }
    std::string_view operator()(uint64_t) const { return "integer"; }
    std::string_view operator()(double) const { return "number"; }
    std::string_view operator()(const std::string&) const { return "string"; }
    std::string_view operator()(const Array&) const { return "array"; }
    std::string_view operator()(const Object&) const { return "object"; }
  };
  return std::visit(Name{}, value_);
}

const Json* Json::find(std::string_view key) const {
  const Object* members = if_object();
  if (members == nullptr) return nullptr;
  const auto it =
      std::ranges::find_if(*members, [&](const Member& member) { return member.first == key; });
  return it == members->end() ? nullptr : &it->second;
}

Json& Json::set(std::string key, Json value) {
  if (is_null()) value_ = Object();
  auto* members = std::get_if<Object>(&value_);
  check_internal(members != nullptr, "Json::set on a value that is no object");
  const auto it =
      std::ranges::find_if(*members, [&](const Member& member) { return member.first == key; });
  if (it != members->end()) {
    it->second = std::move(value);
  } else {
    members->emplace_back(std::move(key), std::move(value));
  }
  return *this;
}

Json& Json::push(Json value) {
  if (is_null()) value_ = Array();
  auto* items = std::get_if<Array>(&value_);
  check_internal(items != nullptr, "Json::push on a value that is no array");
  items->push_back(std::move(value));
  return *this;
}

// Appends the text of values to a string. Recursion is as deep as the value, which our reader
// bounds.
class JsonWriter {
 public:
  JsonWriter(std::string& out, int indent) : out_(out), indent_(indent) {}

  void write(const Json& value, int depth) {
    std::visit([&](const auto& v) { put(v, depth); }, value.value_);
  }

 private:
  void put(std::monostate, int) { out_ += "null"; }
  void put(bool v, int) { out_ += v ? "true" : "false"; }
  void put(int64_t v, int) { out_ += fmt::format("{}", v); }
  void put(uint64_t v, int) { out_ += fmt::format("{}", v); }
  void put(double v, int) {
    if (!std::isfinite(v)) {
      out_ += "null";
      return;
    }
    const std::string text = fmt::format("{}", v);
    out_ += text;
    if (text.find_first_of(".e") == std::string::npos) out_ += ".0";
  }
  void put(const std::string& text, int) {
    out_.push_back('"');
    std::string_view rest = text;
    while (!rest.empty()) {
      size_t n = 1;  // length of the next character; longer ones only when well-formed
      while (n < 4 && n < rest.size() && !is_utf8(rest.substr(0, n))) ++n;
      const std::string_view character = rest.substr(0, n);
      if (is_utf8(character)) {
        put_character(character);
        rest.remove_prefix(n);
      } else {
        out_ += "\xef\xbf\xbd";
        rest.remove_prefix(1);
      }
    }
    out_.push_back('"');
  }
  void put_character(std::string_view character) {
    const auto c = static_cast<unsigned char>(character.front());
    switch (c) {
      case '"':
        out_ += "\\\"";
        return;
      case '\\':
        out_ += "\\\\";
        return;
      case '\n':
        out_ += "\\n";
        return;
      case '\r':
        out_ += "\\r";
        return;
      case '\t':
        out_ += "\\t";
        return;
      default:
        break;
    }
    if (c < 0x20 || c == 0x7f) {
      out_ += fmt::format("\\u{:04x}", c);
    } else {
      out_ += character;
    }
  }
  void put(const Json::Array& items, int depth) {
    const bool flat = std::ranges::none_of(
        items, [](const Json& item) { return item.is_array() || item.is_object(); });
    put_list('[', items, ']', flat, depth, [&](const Json& item) { write(item, depth + 1); });
  }
  void put(const Json::Object& members, int depth) {
    put_list('{', members, '}', false, depth, [&](const Json::Member& member) {
      put(member.first, depth);
      out_ += indent_ > 0 ? ": " : ":";
      write(member.second, depth + 1);
    });
  }
  template <class List, class PutItem>
  void put_list(char open, const List& list, char close, bool flat, int depth,
                const PutItem& put_item) {
    out_.push_back(open);
    bool first = true;
    for (const auto& item : list) {
      if (!first) out_ += flat && indent_ > 0 ? ", " : ",";
      first = false;
      if (!flat) new_line(depth + 1);
      put_item(item);
    }
    if (!flat && !list.empty()) new_line(depth);
    out_.push_back(close);
  }
  void new_line(int depth) {
    if (indent_ <= 0) return;
    out_.push_back('\n');
    out_.append(static_cast<size_t>(indent_) * static_cast<size_t>(depth), ' ');
  }

  std::string& out_;
  int indent_;
};

std::string to_text(const Json& value, int indent) {
  std::string out;
  JsonWriter(out, indent).write(value, 0);
  return out;
}

void JsonView::fail(std::string_view text) const { throw_error(text, {}, {}); }

void JsonView::refuse(std::string got, std::string wanted) const {
  const std::string text = fmt::format("got {}, wanted {}", got, wanted);
  throw_error(text, std::move(got), std::move(wanted));
}

void JsonView::throw_error(std::string_view text, std::string got, std::string wanted) const {
  throw Error(code_,
              path_.empty() ? fmt::format("{}: {}", file_, text)
                            : fmt::format("{}: key '{}': {}", file_, path_, text),
              ErrorDetails{
                  .file = file_, .key = path_, .got = std::move(got), .wanted = std::move(wanted)});
}

void JsonView::wrong_kind(std::string_view wanted) const {
  refuse(std::string(value_->kind_name()), std::string(wanted));
}

std::string JsonView::child_path(std::string_view key) const {
  const std::string name = printable(key, 80);
  return path_.empty() ? name : fmt::format("{}.{}", path_, name);
}

std::optional<JsonView> JsonView::find(std::string_view key) const {
  if (!value_->is_object()) wrong_kind("object");
  const Json* member = value_->find(key);
  if (member == nullptr || member->is_null()) return std::nullopt;
  return JsonView(*member, *this, child_path(key));
}

bool JsonView::has(std::string_view key) const { return find(key).has_value(); }

JsonView JsonView::at(std::string_view key) const {
  if (!value_->is_object()) wrong_kind("object");
  const Json* member = value_->find(key);
  if (member == nullptr) {
    throw Error(code_, fmt::format("{}: key '{}' is missing", file_, child_path(key)),
                ErrorDetails{.file = file_, .key = child_path(key), .got = "nothing"});
  }
  return {*member, *this, child_path(key)};
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  const Json::Object* object = value_->if_object();
  if (object == nullptr) wrong_kind("object");
  std::vector<std::pair<std::string, JsonView>> out;
  out.reserve(object->size());
  for (const auto& [key, member] : *object) {
    out.emplace_back(key, JsonView(member, *this, child_path(key)));
  }
  return out;
}

std::vector<JsonView> JsonView::items() const {
  const Json::Array* array = value_->if_array();
  if (array == nullptr) wrong_kind("array");
  std::vector<JsonView> out;
  out.reserve(array->size());
  for (const Json& item : *array) {
    out.push_back(JsonView(item, *this, fmt::format("{}[{}]", path_, out.size())));
  }
  return out;
}

int64_t JsonView::integer(int64_t min, int64_t max) const {
  const auto value = value_->if_integer();
  if (!value) wrong_kind("integer");
  if (*value < min || *value > max) {
    refuse(fmt::format("{}", *value), fmt::format("an integer from {} to {}", min, max));
  }
  return *value;
}

double JsonView::extended_number() const {
  const auto value = value_->if_number();
  if (!value) wrong_kind("number");
  return *value;
}

double JsonView::number() const {
  const double value = extended_number();
  if (!std::isfinite(value)) refuse(fmt::format("{}", value), "a finite number");
  return value;
}

bool JsonView::boolean() const {
  const bool* value = value_->if_bool();
  if (value == nullptr) wrong_kind("boolean");
  return *value;
}

const std::string& JsonView::string() const {
  const std::string* value = value_->if_string();
  if (value == nullptr) wrong_kind("string");
  return *value;
}

std::vector<int64_t> JsonView::integers(int64_t min, int64_t max) const {
  if (!value_->is_array()) wrong_kind("array of integers");
  std::vector<int64_t> out;
  for (const JsonView& item : items()) out.push_back(item.integer(min, max));
  return out;
}

std::vector<double> JsonView::numbers() const {
  if (!value_->is_array()) wrong_kind("array of numbers");
  std::vector<double> out;
  for (const JsonView& item : items()) out.push_back(item.number());
  return out;
}

std::vector<std::string> JsonView::strings() const {
  if (!value_->is_array()) wrong_kind("array of strings");
  std::vector<std::string> out;
  for (const JsonView& item : items()) out.push_back(item.string());
  return out;
}

int64_t JsonView::integer_or(std::string_view key, int64_t fallback, int64_t min,
                             int64_t max) const {
  const auto member = find(key);
  return member ? member->integer(min, max) : fallback;
}

double JsonView::number_or(std::string_view key, double fallback) const {
  const auto member = find(key);
  return member ? member->number() : fallback;
}

bool JsonView::boolean_or(std::string_view key, bool fallback) const {
  const auto member = find(key);
  return member ? member->boolean() : fallback;
}

std::string JsonView::string_or(std::string_view key, std::string_view fallback) const {
  const auto member = find(key);
  return member ? member->string() : std::string(fallback);
}

}  // namespace halftone
