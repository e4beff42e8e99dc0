#include "quant/record.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "halftone/error.h"
#include "halftone/near_miss.h"

#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "graph/ops/reduce.h"
#include "io/safetensors.h"

namespace halftone::quant {
namespace {

constexpr int64_t kVersion = 1;
constexpr std::string_view kMetadataKey = "halftone.calibration";
constexpr int64_t kMaxSteps = 10'000;
constexpr int64_t kMaxChannels = 1 << 20;
constexpr double kLargest = 3e38;

// The per-step floats of a value, in the order of the file's rows.
constexpr size_t kNumStepRows = 3;
constexpr size_t kNumTensors = 4;  // of a value

Json describe(const CalibrationRecord& record) {
  Json key = Json::object();
  for (const auto& [name, value] : record.key) key.set(name, value);
  Json layers = Json::object();
  for (const auto& [layer, value] : record.layers) layers.set(layer, value);
  Json values = Json::object();
  for (const auto& [name, stats] : record.values) {
    values.set(name, Json::object({{"channels", stats.channels},
                                   {"low", stats.low},
                                   {"high", stats.high},
                                   {"ema_low", stats.ema_low},
                                   {"ema_high", stats.ema_high}}));
  }
  return Json::object({{"version", kVersion},
                       {"num_steps", record.num_steps},
                       {"samples", record.samples},
                       {"key", std::move(key)},
                       {"layers", std::move(layers)},
                       {"values", std::move(values)}});
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : where_(path.string()), file_(path) {}

  CalibrationRecord run() {
    const std::string* text = nullptr;
    for (const auto& [name, value] : file_.header().metadata) {
      if (name == kMetadataKey) text = &value;
    }
    if (text == nullptr) fail("is no calibration record");
    const Json json = parse_json(*text, where_);
    const JsonView view(json, where_);
    check_members(view, {"version", "num_steps", "samples", "key", "layers", "values"});
    if (view.at("version").integer() != kVersion) {
      fail(fmt::format("is of version {}, this program reads {}; calibrate again",
                       view.at("version").integer(), kVersion));
    }
    record_.num_steps = static_cast<int>(view.at("num_steps").integer(1, kMaxSteps));
    record_.samples = view.at("samples").integer(0);
    for (const auto& [name, value] : view.at("key").members()) {
      record_.key.emplace_back(name, value.string());
    }
    for (const auto& [name, value] : view.at("values").members()) read_value(name, value);
    for (const auto& [layer, value] : view.at("layers").members()) {
      if (!record_.values.contains(value.string())) {
        fail(fmt::format("layer '{}' reads the unknown value '{}'", layer, value.string()));
      }
      record_.layers.emplace(layer, value.string());
    }
    check_tensors();
    return std::move(record_);
  }

 private:
  [[noreturn]] void fail(std::string_view text) const {
    constexpr size_t kMostBytes = 400;
    throw Error(Errc::kCorruptFile, fmt::format("{}: {}", where_, printable(text, kMostBytes)));
  }

  static void check_members(const JsonView& view, std::initializer_list<std::string_view> known) {
    for (const auto& [name, value] : view.members()) {
      if (std::ranges::find(known, name) != known.end()) continue;
      value.fail("is not known in a calibration record" +
                 did_you_mean(name, {known.begin(), known.size()}));
    }
  }

  // Every tensor was read.
  void check_tensors() const {
    if (file_.header().tensors.size() == kNumTensors * record_.values.size()) return;
    for (const io::SafetensorsEntry& entry : file_.header().tensors) {
      const std::string value = entry.name.substr(0, entry.name.rfind('/'));
      if (!record_.values.contains(value)) {
        fail(fmt::format("tensor '{}' belongs to no value of the record", entry.name));
      }
    }
    fail(fmt::format("got {} tensors, wanted {} a value", file_.header().tensors.size(),
                     kNumTensors));
  }

  template <class T>
  std::vector<T> tensor(const std::string& name, const TensorType& wanted) {
    const io::SafetensorsEntry* entry = file_.find(name);
    if (entry == nullptr) fail(fmt::format("tensor '{}' is missing", name));
    const TensorType type = entry->type(where_);
    if (type != wanted) {
      fail(fmt::format("tensor '{}' is {}, wanted {}", name, to_string(type), to_string(wanted)));
    }
    std::vector<T> values(static_cast<size_t>(type.shape.num_elements()));
    (void)file_.read(*entry, 0, values.size(), type.dtype,
                     reinterpret_cast<std::byte*>(values.data()));
    return values;
  }

  void read_value(const std::string& name, const JsonView& view) {
    ValueStats stats;
    check_members(view, {"channels", "low", "high", "ema_low", "ema_high"});
    stats.channels = view.at("channels").integer(1, kMaxChannels);
    const auto number = [&](const char* key) {
      const double value = view.at(key).number();
      if (std::fabs(value) > kLargest) view.at(key).fail("wanted a value of at most 3e38");
      return static_cast<float>(value);
    };
    stats.low = number("low");
    stats.high = number("high");
    stats.ema_low = number("ema_low");
    stats.ema_high = number("ema_high");
    stats.calls = steps(name);
    const auto n = static_cast<int64_t>(stats.calls.size());
    const auto rows =
        tensor<float>(name + "/steps", {DType::kF32, {static_cast<int64_t>(kNumStepRows), n}});
    const auto at = rows.begin();
    stats.sum.assign(at, at + n);
    stats.max.assign(at + n, at + 2 * n);
    stats.min.assign(at + 2 * n, rows.end());
    stats.column_amax = tensor<float>(name + "/columns", {DType::kF32, {stats.channels}});
    stats.histogram = tensor<int64_t>(name + "/histogram", {DType::kI64, {graph::kHistogramBins}});
    const auto bad = [](float v) { return !std::isfinite(v) || v < 0; };
    if (std::ranges::any_of(rows, bad) || std::ranges::any_of(stats.column_amax, bad)) {
      fail(fmt::format("value '{}': a maximum is negative or not finite", name));
    }
    const auto negative = [](int64_t v) { return v < 0; };
    if (std::ranges::any_of(stats.calls, negative) ||
        std::ranges::any_of(stats.histogram, negative) || stats.low > stats.high ||
        stats.ema_low > stats.ema_high) {
      fail(fmt::format("value '{}': impossible counts or range", name));
    }
    record_.values.emplace(name, std::move(stats));
  }

  std::vector<int64_t> steps(const std::string& name) {
    const io::SafetensorsEntry* entry = file_.find(name + "/calls");
    const bool fits = entry != nullptr && entry->shape.rank() == 1 &&
                      (entry->shape[0] == 1 || entry->shape[0] == record_.num_steps);
    if (!fits)
      fail(fmt::format("value '{}': wanted calls of 1 or {} steps", name, record_.num_steps));
    return tensor<int64_t>(name + "/calls", {DType::kI64, entry->shape});
  }

  std::string where_;
  io::SafetensorsFile file_;
  CalibrationRecord record_;
};

}  // namespace

const ValueStats* CalibrationRecord::find(const std::string& layer) const {
  const auto name = layers.find(layer);
  if (name == layers.end()) return nullptr;
  const auto found = values.find(name->second);
  return found == values.end() ? nullptr : &found->second;
}

const ValueStats* CalibrationRecord::find_without_first(const std::string& layer) const {
  const auto name = layers.find(layer);
  if (name == layers.end()) return nullptr;
  const auto found = values.find(without_first(name->second));
  return found == values.end() ? nullptr : &found->second;
}

std::string without_first(std::string_view value) {
  return std::string(value).append("/without_first");
}

std::string CalibrationRecord::entry(std::string_view name) const {
  for (const auto& [key_name, value] : key) {
    if (key_name == name) return value;
  }
  return {};
}

std::string CalibrationRecord::hash() const {
  Sha256 sha;
  sha.update_field(to_text(describe(*this)));
  for (const auto& [name, stats] : values) {
    for (const auto bytes :
         {bytes_of(stats.sum), bytes_of(stats.max), bytes_of(stats.min), bytes_of(stats.calls),
          bytes_of(stats.column_amax), bytes_of(stats.histogram)}) {
      sha.update(bytes.data(), bytes.size());
    }
  }
  return to_hex(sha.finish());
}

void save(const CalibrationRecord& record, const std::filesystem::path& path) {
  std::vector<io::NamedType> tensors;
  for (const auto& [name, stats] : record.values) {
    const auto steps = static_cast<int64_t>(stats.calls.size());
    tensors.push_back(
        {name + "/steps", {DType::kF32, {static_cast<int64_t>(kNumStepRows), steps}}});
    tensors.push_back({name + "/calls", {DType::kI64, {steps}}});
    tensors.push_back({name + "/columns", {DType::kF32, {stats.channels}}});
    tensors.push_back({name + "/histogram", {DType::kI64, {graph::kHistogramBins}}});
  }
  io::SafetensorsWriter writer(path, tensors,
                               {{std::string(kMetadataKey), to_text(describe(record))}});
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < writer.tensors().size(); ++i) index[writer.tensors()[i].name] = i;
  for (const auto& [name, stats] : record.values) {
    std::vector<float> rows = stats.sum;
    rows.insert(rows.end(), stats.max.begin(), stats.max.end());
    rows.insert(rows.end(), stats.min.begin(), stats.min.end());
    writer.write(index.at(name + "/steps"), 0, bytes_of(rows));
    writer.write(index.at(name + "/calls"), 0, bytes_of(stats.calls));
    writer.write(index.at(name + "/columns"), 0, bytes_of(stats.column_amax));
    writer.write(index.at(name + "/histogram"), 0, bytes_of(stats.histogram));
  }
  writer.commit();
}

CalibrationRecord load_record(const std::filesystem::path& path) { return Reader(path).run(); }

}  // namespace halftone::quant
