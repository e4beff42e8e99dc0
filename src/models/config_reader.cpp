#include "models/config_reader.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/text.h"

namespace halftone::models {
namespace {

std::string quoted(const Json& value) { return printable(to_text(value)); }

}  // namespace

ConfigReader::ConfigReader(JsonView json, Logger logger)
    : json_(std::move(json)), logger_(std::move(logger)) {
  if (!json_.value().is_object()) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: got {}, wanted an object", json_.file(),
                                                json_.value().kind_name()));
  }
}

void ConfigReader::fail(std::string_view key, std::string_view text) const {
  throw Error(Errc::kCorruptFile, fmt::format("{}: key '{}': {}", json_.file(), key, text),
              ErrorDetails{.file = json_.file(), .key = std::string(key)});
}

void ConfigReader::unsupported(std::string_view key, std::string_view text) const {
  throw Error(Errc::kUnsupported, fmt::format("{}: key '{}': {}", json_.file(), key, text),
              ErrorDetails{.file = json_.file(), .key = std::string(key)});
}

std::optional<JsonView> ConfigReader::find(std::string_view key) {
  known_.emplace(key);
  return json_.find(key);
}

bool ConfigReader::is_written_null(std::string_view key) const {
  const Json* value = json_.value().find(key);
  return value != nullptr && value->is_null();
}

int64_t ConfigReader::integer(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  const std::optional<JsonView> value = find(key);
  return value ? value->integer(min, max) : fallback;
}

double ConfigReader::number(std::string_view key, double fallback) {
  const std::optional<JsonView> value = find(key);
  return value ? value->number() : fallback;
}

double ConfigReader::positive(std::string_view key, double fallback) {
  const double value = number(key, fallback);
  if (!(value > 0.0)) fail(key, fmt::format("got {}, wanted a number above 0", value));
  return value;
}

bool ConfigReader::boolean(std::string_view key, bool fallback) {
  const std::optional<JsonView> value = find(key);
  return value ? value->boolean() : fallback;
}

std::string ConfigReader::text(std::string_view key, std::string_view fallback) {
  const std::optional<JsonView> value = find(key);
  return value ? value->string() : std::string(fallback);
}

std::vector<int64_t> ConfigReader::channel_list(std::string_view key) {
  const std::optional<JsonView> value = find(key);
  if (!value) fail(key, "is missing, wanted a list of channel counts");
  std::vector<int64_t> list = value->integers(1, kMaxChannels);
  if (list.empty() || list.size() > static_cast<size_t>(kMaxLevels)) {
    fail(key, fmt::format("got {} entries, wanted 1 to {}", list.size(), kMaxLevels));
  }
  return list;
}

std::vector<std::string> ConfigReader::text_list(std::string_view key, size_t count) {
  const std::optional<JsonView> value = find(key);
  if (!value) fail(key, fmt::format("is missing, wanted a list of {} names", count));
  std::vector<std::string> list = value->strings();
  if (list.size() != count) {
    fail(key,
         fmt::format("got {} entries, wanted {} as in block_out_channels", list.size(), count));
  }
  return list;
}

std::vector<int64_t> ConfigReader::per_level(std::string_view key, int64_t fallback, size_t count,
                                             int64_t min, int64_t max) {
  const std::optional<JsonView> value = find(key);
  if (!value) return std::vector<int64_t>(count, fallback);
  if (!value->value().is_array()) return std::vector<int64_t>(count, value->integer(min, max));
  std::vector<int64_t> list = value->integers(min, max);
  if (list.size() != count) {
    fail(key,
         fmt::format("got {} entries, wanted {} as in block_out_channels", list.size(), count));
  }
  return list;
}

int64_t ConfigReader::square_size(std::string_view key, int64_t fallback) {
  const std::optional<JsonView> value = find(key);
  if (!value) return fallback;
  if (!value->value().is_array()) return value->integer(1, kMaxChannels);
  const std::vector<int64_t> pair = value->integers(1, kMaxChannels);
  if (pair.size() != 2 || pair[0] != pair[1]) {
    fail(key, fmt::format("got {}, wanted one number or two equal ones", quoted(value->value())));
  }
  return pair[0];
}

void ConfigReader::expect(std::string_view key, std::initializer_list<Json> accepted) {
  const std::optional<JsonView> found = find(key);
  if (!found) return;
  const Json& got = found->value();
  const bool is_accepted = std::ranges::any_of(accepted, [&](const Json& value) {
    return got == value || (got.if_number() && got.if_number() == value.if_number());
  });
  if (is_accepted) return;
  std::vector<std::string> wanted{"null"};
  for (const Json& value : accepted) wanted.push_back(to_text(value));
  unsupported(key,
              fmt::format("got {}, only {} is supported", quoted(got), fmt::join(wanted, " or ")));
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) known_.emplace(key);
}

void ConfigReader::warn_of_unknown_keys() const {
  for (const auto& [key, value] : *json_.value().if_object()) {
    if (key.starts_with('_') || known_.contains(key)) continue;
    log(logger_, LogLevel::kWarning, "models",
        fmt::format("{}: key '{}' is unknown and has no effect", json_.file(), printable(key)));
  }
}

void check_groups(const ConfigReader& json, std::string_view key,
                  const std::vector<int64_t>& channels, int64_t groups) {
  for (const int64_t c : channels) {
    if (c % groups != 0) {
      json.fail(key, fmt::format("got {}, wanted a multiple of norm_num_groups {}", c, groups));
    }
  }
}

}  // namespace halftone::models
