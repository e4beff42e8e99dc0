// Reads a component's config.json: typed keys with bounds, options that Halftone does not compute
// are refused by name, keys that nobody read are reported.
#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "halftone/log.h"

#include "base/json.h"

namespace halftone::models {

// Bounds on what a config may ask for, so that no file makes us allocate out of proportion.
inline constexpr int64_t kMaxChannels = 65536;
inline constexpr int64_t kMaxLayers = 256;
inline constexpr int64_t kMaxLevels = 8;

// Getters take the default of the Python class for an absent or null key. Errors are
// "<file>: key '<key>': ..." with kCorruptFile for impossible values and kUnsupported for refused
// ones.
class ConfigReader {
 public:
  // Throws kCorruptFile unless `json` is an object.
  explicit ConfigReader(JsonView json, Logger logger = {});

  [[nodiscard]] int64_t integer(std::string_view key, int64_t fallback, int64_t min, int64_t max);
  [[nodiscard]] double number(std::string_view key, double fallback);
  [[nodiscard]] double positive(std::string_view key, double fallback);
  [[nodiscard]] bool boolean(std::string_view key, bool fallback);
  [[nodiscard]] std::string text(std::string_view key, std::string_view fallback);
  [[nodiscard]] std::optional<JsonView> find(std::string_view key);
  // The key is there with the value null.
  [[nodiscard]] bool is_written_null(std::string_view key) const;
  // One to kMaxLevels entries; throws when absent.
  [[nodiscard]] std::vector<int64_t> channel_list(std::string_view key);
  [[nodiscard]] std::vector<std::string> text_list(std::string_view key, size_t count);
  // One integer for all levels, or a list with one for each of `count` levels.
  [[nodiscard]] std::vector<int64_t> per_level(std::string_view key, int64_t fallback, size_t count,
                                               int64_t min, int64_t max);
  // An image extent: an integer or a pair of equal ones.
  [[nodiscard]] int64_t square_size(std::string_view key, int64_t fallback);

  // Absent, null or one of `accepted`; anything else is kUnsupported.
  void expect(std::string_view key, std::initializer_list<Json> accepted);
  // Keys without influence on the computation.
  void ignore(std::initializer_list<std::string_view> keys);
  // Warns of keys nobody asked for (those that begin with '_' are bookkeeping).
  void warn_of_unknown_keys() const;

  [[noreturn]] void fail(std::string_view key, std::string_view text) const;
  [[noreturn]] void unsupported(std::string_view key, std::string_view text) const;

 private:
  JsonView json_;
  Logger logger_;
  std::set<std::string, std::less<>> known_;
};

// Throws unless `groups` divides every entry of `channels` read from `key`.
void check_groups(const ConfigReader& json, std::string_view key,
                  const std::vector<int64_t>& channels, int64_t groups);

}  // namespace halftone::models
