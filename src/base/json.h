// JSON from untrusted sources: a strict reader with limits, a small ordered value type, typed
// access whose errors name file and key, and a writer.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "halftone/error.h"

namespace halftone {

// A JSON value. Objects keep the order of their members; numbers written without fraction or
// exponent stay integers.
class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;  // null
  // NOLINTBEGIN(google-explicit-constructor): literals read as values
  Json(bool value) : value_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Json(T value) {
    if constexpr (std::unsigned_integral<T> && sizeof(T) == 8) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        value_ = static_cast<uint64_t>(value);
        return;
      }
    }
    value_ = static_cast<int64_t>(value);
  }
  Json(double value);  // a non-finite value becomes null, as in what we write
  Json(float value);   // keeps the shortest decimal form of the float
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}
  // NOLINTEND(google-explicit-constructor)
  // Keeps infinities and NaN, which only documents written by Python hold. They are written as
  // null.
  [[nodiscard]] static Json any_number(double value);
  [[nodiscard]] static Json object(std::initializer_list<Member> members = {}) {
    return Json(Object(members));
  }
  [[nodiscard]] static Json array(std::initializer_list<Json> items = {}) {
    return Json(Array(items));
  }
  template <class Range>
  [[nodiscard]] static Json array_of(const Range& range) {
    Array items;
    for (const auto& item : range) items.emplace_back(item);
    return Json(std::move(items));
  }

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  [[nodiscard]] bool is_object() const { return std::holds_alternative<Object>(value_); }
  [[nodiscard]] bool is_array() const { return std::holds_alternative<Array>(value_); }
  // Pointers are null when the value is of another kind.
  [[nodiscard]] const bool* if_bool() const { return std::get_if<bool>(&value_); }
  [[nodiscard]] const std::string* if_string() const { return std::get_if<std::string>(&value_); }
  [[nodiscard]] const Array* if_array() const { return std::get_if<Array>(&value_); }
  [[nodiscard]] const Object* if_object() const { return std::get_if<Object>(&value_); }
  [[nodiscard]] std::optional<int64_t> if_integer() const;
  [[nodiscard]] std::optional<uint64_t> if_unsigned() const;
  [[nodiscard]] std::optional<double> if_number() const;  // integers too
  // "null", "boolean", "integer", "number", "string", "array", "object".
  [[nodiscard]] std::string_view kind_name() const;
  // The member of an object, or null when absent or when this is no object.
  [[nodiscard]] const Json* find(std::string_view key) const;

  // Turns null into an object, replaces or appends the member. Returns *this to chain.
  Json& set(std::string key, Json value);
  // Turns null into an array and appends.
  Json& push(Json value);

  bool operator==(const Json&) const = default;

 private:
  friend class JsonWriter;
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, Array, Object> value_;
};

struct JsonLimits {
  size_t max_bytes = size_t{16} << 20;
  int max_depth = 64;
  Errc code = Errc::kCorruptFile;  // of the errors; requests use kInvalidArgument
  // Accepts NaN, Infinity and -Infinity as Python's json module writes them. Getters still refuse
  // them, except extended_number().
  bool python_numbers = false;
};

// Receives a document piece by piece, for files too large to hold as values. Duplicate keys, depth,
// UTF-8 and NUL are checked before. `text` arguments may be moved from.
class JsonHandler {
 public:
  virtual ~JsonHandler() = default;
  virtual void scalar(Json value) = 0;  // null, boolean, number or string
  virtual void key(std::string text) = 0;
  virtual void begin_object() = 0;
  virtual void end_object() = 0;
  virtual void begin_array() = 0;
  virtual void end_array() = 0;
};

// Reads one JSON document. Errors begin with `where` (a file name) and give offset and reason.
[[nodiscard]] Json parse_json(std::string_view text, std::string_view where,
                              const JsonLimits& limits = {});
void parse_json(std::string_view text, std::string_view where, const JsonLimits& limits,
                JsonHandler& handler);

// Text of a value; indent 0 is one line. Numbers round-trip; malformed UTF-8 becomes U+FFFD.
[[nodiscard]] std::string to_text(const Json& value, int indent = 0);

// A value with the place it came from, read with typed getters that throw
// "unet/config.json: key 'block_out_channels': got string, wanted array of integers".
// Borrows the value, which must outlive the view.
class JsonView {
 public:
  static constexpr int64_t kLargestInteger = int64_t{1} << 53;

  JsonView(const Json& value, std::string file, Errc code = Errc::kCorruptFile)
      : value_(&value), file_(std::move(file)), code_(code) {}

  [[nodiscard]] const Json& value() const { return *value_; }
  [[nodiscard]] const std::string& file() const { return file_; }
  // Throws this view's error: "<file>: key '<path>': <text>".
  [[noreturn]] void fail(std::string_view text) const;

  // Present and not null.
  [[nodiscard]] bool has(std::string_view key) const;
  // The member; throws when absent.
  [[nodiscard]] JsonView at(std::string_view key) const;
  // The member, unless absent or null.
  [[nodiscard]] std::optional<JsonView> find(std::string_view key) const;
  [[nodiscard]] std::vector<std::pair<std::string, JsonView>> members() const;
  [[nodiscard]] std::vector<JsonView> items() const;

  [[nodiscard]] int64_t integer(int64_t min = -kLargestInteger,
                                int64_t max = kLargestInteger) const;
  [[nodiscard]] double number() const;           // finite
  [[nodiscard]] double extended_number() const;  // may be infinite or NaN
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] const std::string& string() const;
  [[nodiscard]] std::vector<int64_t> integers(int64_t min = -kLargestInteger,
                                              int64_t max = kLargestInteger) const;
  [[nodiscard]] std::vector<double> numbers() const;
  [[nodiscard]] std::vector<std::string> strings() const;

  // Getters of a member with a default for "absent or null".
  [[nodiscard]] int64_t integer_or(std::string_view key, int64_t fallback,
                                   int64_t min = -kLargestInteger,
                                   int64_t max = kLargestInteger) const;
  [[nodiscard]] double number_or(std::string_view key, double fallback) const;
  [[nodiscard]] bool boolean_or(std::string_view key, bool fallback) const;
  [[nodiscard]] std::string string_or(std::string_view key, std::string_view fallback) const;

 private:
  JsonView(const Json& value, const JsonView& parent, std::string path)
      : value_(&value), file_(parent.file_), path_(std::move(path)), code_(parent.code_) {}
  [[noreturn]] void wrong_kind(std::string_view wanted) const;
  [[noreturn]] void refuse(std::string got, std::string wanted) const;
  [[noreturn]] void throw_error(std::string_view text, std::string got, std::string wanted) const;
  [[nodiscard]] std::string child_path(std::string_view key) const;

  const Json* value_;
  std::string file_;
  std::string path_;
  Errc code_;
};

}  // namespace halftone
