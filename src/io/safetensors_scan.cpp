// Header of a safetensors file: JSON events into checked entries.
#include <algorithm>
#include <cstring>
#include <tuple>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/json.h"
#include "base/text.h"
#include "io/safetensors.h"

namespace halftone::io {
namespace {

constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxRank = 64;
constexpr size_t kMaxWarnings = 20;

struct StoredType {
  std::string_view name;
  uint64_t bits;
  std::optional<DType> dtype;
};
constexpr std::array<StoredType, 22> kStoredTypes{{
    {"F32", 32, DType::kF32},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"F8_E4M3", 8, DType::kF8E4M3},
    {"F8_E5M2", 8, DType::kF8E5M2},
    {"I8", 8, DType::kI8},
    {"U8", 8, DType::kU8},
    {"I32", 32, DType::kI32},
    {"I64", 64, DType::kI64},
    {"F64", 64, {}},
    {"C64", 64, {}},
    {"BOOL", 8, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"U32", 32, {}},
    {"U64", 64, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"F4", 4, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
}};

const StoredType* find_type(std::string_view name) {
  const auto it = std::ranges::find(kStoredTypes, name, &StoredType::name);
  return it == kStoredTypes.end() ? nullptr : &*it;
}

bool is_clean_name(std::string_view name) {
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return name != ".." && !name.starts_with("../") && name.find("/../") == std::string_view::npos;
}

// Collects entries from the events of the header. Offsets stay relative to the data section.
class HeaderReader final : public JsonHandler {
 public:
  HeaderReader(std::string_view where, SafetensorsHeader& header)
      : where_(where), header_(header) {}

  [[noreturn]] void fail(std::string_view text) const {
    throw Error(Errc::kCorruptFile, fmt::format("{}: {}", where_, text),
                ErrorDetails{.file = std::string(where_)});
  }
  [[noreturn]] void fail(std::string_view tensor, std::string_view text) const {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: tensor '{}': {}", where_, printable(tensor), text),
                ErrorDetails{.file = std::string(where_), .key = printable(tensor)});
  }
  void warn(std::string text) {
    if (header_.warnings.size() < kMaxWarnings) header_.warnings.push_back(std::move(text));
  }

  void scalar(Json value) override {
    switch (state_) {
      case State::kStart:
        fail("the header is no JSON object");
      case State::kRoot:
        refuse_value(value.kind_name());
      case State::kMetadata: {
        const std::string* text = value.if_string();
        if (text == nullptr) {
          fail(fmt::format("__metadata__ key '{}': got {}, wanted string", printable(key_),
                           value.kind_name()));
        }
        header_.metadata.emplace_back(std::move(key_), *text);
        return;
      }
      case State::kEntry:
        entry_scalar(value);
        return;
      case State::kShape:
        add_dimension(value);
        return;
      case State::kOffsets:
        add_offset(value);
        return;
      case State::kSkip:
        return;
    }
  }
  void key(std::string text) override {
    if (state_ != State::kSkip) key_ = std::move(text);
  }
  void begin_object() override {
    switch (state_) {
      case State::kStart:
        state_ = State::kRoot;
        return;
      case State::kRoot:
        begin_entry();
        return;
      case State::kMetadata:
        fail(fmt::format("__metadata__ key '{}': got object, wanted string", printable(key_)));
      case State::kEntry:
        begin_unknown("object");
        return;
      case State::kShape:
      case State::kOffsets:
        refuse_item("object");
      case State::kSkip:
        ++skip_depth_;
        return;
    }
  }
  void end_object() override {
    if (state_ == State::kSkip) {
      end_skip();
    } else if (state_ == State::kEntry) {
      end_entry();
      state_ = State::kRoot;
    } else {
      state_ = State::kRoot;  // of the metadata; the root's own end is the last event
    }
  }
  void begin_array() override {
    switch (state_) {
      case State::kStart:
        fail("the header is no JSON object");
      case State::kRoot:
        refuse_value("array");
      case State::kMetadata:
        fail(fmt::format("__metadata__ key '{}': got array, wanted string", printable(key_)));
      case State::kEntry:
        if (key_ == "shape") {
          state_ = State::kShape;
          has_shape_ = true;
        } else if (key_ == "data_offsets") {
          state_ = State::kOffsets;
        } else {
          begin_unknown("array");
        }
        return;
      case State::kShape:
      case State::kOffsets:
        refuse_item("array");
      case State::kSkip:
        ++skip_depth_;
        return;
    }
  }
  void end_array() override {
    if (state_ == State::kSkip) {
      end_skip();
    } else {
      state_ = State::kEntry;
    }
  }

 private:
  enum class State { kStart, kRoot, kMetadata, kEntry, kShape, kOffsets, kSkip };

  [[noreturn]] void refuse_value(std::string_view kind) const {
    if (key_ == "__metadata__") fail(fmt::format("__metadata__: got {}, wanted object", kind));
    fail(key_, fmt::format("got {}, wanted object", kind));
  }
  [[noreturn]] void refuse_item(std::string_view kind) const {
    fail(entry_.name, fmt::format("'{}' holds {}, wanted non-negative integers", key_, kind));
  }
  void begin_entry() {
    if (key_ == "__metadata__") {
      state_ = State::kMetadata;
      return;
    }
    if (key_.empty()) fail("a tensor has an empty name");
    if (key_.size() > kMaxNameBytes) {
      fail(key_, fmt::format("name of {} bytes, the limit is {}", key_.size(), kMaxNameBytes));
    }
    if (!is_clean_name(key_)) fail(key_, "name with control characters or '..'");
    if (header_.tensors.size() >= kMaxSafetensorsTensors) {
      fail(fmt::format("more than {} tensors", kMaxSafetensorsTensors));
    }
    entry_ = SafetensorsEntry();
    entry_.name = std::move(key_);
    shape_.clear();
    offsets_.clear();
    has_shape_ = false;
    state_ = State::kEntry;
  }
  void begin_unknown(std::string_view kind) {
    if (key_ == "dtype" || key_ == "shape" || key_ == "data_offsets") wrong_field(kind);
    warn(fmt::format("{}: tensor '{}': unknown field '{}'", where_, entry_.name, printable(key_)));
    state_ = State::kSkip;
    skip_depth_ = 1;
  }
  void end_skip() {
    if (--skip_depth_ == 0) state_ = State::kEntry;
  }
  [[noreturn]] void wrong_field(std::string_view kind) const {
    fail(entry_.name, fmt::format("'{}': got {}, wanted {}", key_, kind,
                                  key_ == "dtype" ? "string" : "array of integers"));
  }
  void entry_scalar(const Json& value) {
    if (key_ == "shape" || key_ == "data_offsets") wrong_field(value.kind_name());
    if (key_ != "dtype") {
      warn(
          fmt::format("{}: tensor '{}': unknown field '{}'", where_, entry_.name, printable(key_)));
      return;
    }
    const std::string* text = value.if_string();
    if (text == nullptr) wrong_field(value.kind_name());
    type_ = find_type(*text);
    if (type_ == nullptr) {
      fail(entry_.name,
           fmt::format("unknown dtype '{}', wanted F32, F16, BF16, ...", printable(*text)));
    }
    entry_.dtype_name = *text;
    entry_.dtype = type_->dtype;
  }
  uint64_t non_negative(const Json& value) const {
    constexpr uint64_t kLargest = uint64_t{1} << 53;
    const auto number = value.if_unsigned();
    if (!number) refuse_item(value.if_integer() ? "a negative integer" : value.kind_name());
    if (*number > kLargest) {
      fail(entry_.name, fmt::format("'{}' holds {}, the limit is 2^53", key_, *number));
    }
    return *number;
  }
  void add_dimension(const Json& value) {
    if (shape_.size() >= kMaxRank) {
      fail(entry_.name, fmt::format("more than {} dimensions", kMaxRank));
    }
    shape_.push_back(static_cast<int64_t>(non_negative(value)));
  }
  void add_offset(const Json& value) {
    if (offsets_.size() >= 2) fail(entry_.name, "'data_offsets' holds more than 2 values");
    offsets_.push_back(non_negative(value));
  }
  void end_entry() {
    if (entry_.dtype_name.empty()) fail(entry_.name, "'dtype' is missing");
    if (!has_shape_) fail(entry_.name, "'shape' is missing");
    if (offsets_.size() != 2) {
      fail(entry_.name, fmt::format("'data_offsets' holds {} values, wanted 2", offsets_.size()));
    }
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    if (entry_.begin > entry_.end) {
      fail(entry_.name,
           fmt::format("data begins at {} after its end {}", entry_.begin, entry_.end));
    }
    uint64_t bits = type_->bits;
    for (const int64_t d : shape_) {
      const auto product = checked_mul(bits, static_cast<uint64_t>(d));
      if (!product) fail(entry_.name, fmt::format("shape {} overflows", to_string(Shape(shape_))));
      bits = *product;
    }
    if (bits % 8 != 0) {
      fail(entry_.name, fmt::format("{} bits of {}, wanted whole bytes", bits, type_->name));
    }
    if (bits / 8 != entry_.end - entry_.begin) {
      fail(entry_.name,
           fmt::format("{} bytes of data, wanted {} for {}{}", entry_.end - entry_.begin, bits / 8,
                       type_->name, to_string(Shape(shape_))));
    }
    entry_.shape = Shape(shape_);
    header_.tensors.push_back(std::move(entry_));
  }

  std::string_view where_;
  SafetensorsHeader& header_;
  State state_ = State::kStart;
  int skip_depth_ = 0;
  std::string key_;
  SafetensorsEntry entry_;
  const StoredType* type_ = nullptr;
  std::vector<int64_t> shape_;
  std::vector<uint64_t> offsets_;
  bool has_shape_ = false;
};

// Sorts the entries by position and checks that they tile the data section of `data_bytes` exactly.
void check_layout(std::vector<SafetensorsEntry>& tensors, uint64_t data_bytes,
                  const HeaderReader& reader) {
  std::ranges::sort(tensors, [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t position = 0;
  for (const SafetensorsEntry& entry : tensors) {
    if (entry.begin != position) {
      reader.fail(entry.name, fmt::format("data begins at {}, wanted {}: {}", entry.begin, position,
                                          entry.begin > position ? "a hole" : "an overlap"));
    }
    position = entry.end;
    if (position > data_bytes) {
      reader.fail(entry.name, fmt::format("data ends at {}, past the {} bytes of the file's data",
                                          position, data_bytes));
    }
  }
  if (position != data_bytes) {
    reader.fail(fmt::format("{} bytes of data, wanted {}: bytes after the last tensor", data_bytes,
                            position));
  }
}

// Length of the header text, checked against the file.
uint64_t header_size(uint64_t file_size, const std::array<std::byte, 8>& length,
                     std::string_view where) {
  uint64_t n = 0;
  std::memcpy(&n, length.data(), sizeof n);
  const uint64_t remaining = file_size - 8;
  std::string problem;
  if (n < 2) problem = "too short for a header";
  if (n > remaining) problem = fmt::format("only {} bytes follow", remaining);
  if (n > kMaxSafetensorsHeaderBytes) {
    problem = fmt::format("the limit is {}", kMaxSafetensorsHeaderBytes);
  }
  if (!problem.empty()) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: header length {} at byte 0: {}; is this a safetensors file?",
                            where, n, problem));
  }
  return n;
}

void check_size(uint64_t size, std::string_view where) {
  if (size < 8) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: {} bytes, a safetensors file has at least 10", where, size));
  }
}

SafetensorsHeader parse_header(std::string_view text, uint64_t file_size, std::string_view where) {
  SafetensorsHeader header;
  HeaderReader reader(where, header);
  if (text.front() != '{') {
    reader.fail(fmt::format("the header begins with '{}' at byte 8, wanted '{{'",
                            printable(text.substr(0, 1))));
  }
  const JsonLimits limits{.max_bytes = kMaxSafetensorsHeaderBytes};
  parse_json(text, where, limits, reader);
  const uint64_t data_begin = 8 + text.size();
  check_layout(header.tensors, file_size - data_begin, reader);
  for (SafetensorsEntry& entry : header.tensors) {
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  header.hash = sha256(text);
  return header;
}

}  // namespace

TensorType SafetensorsEntry::type(std::string_view where) const {
  if (!dtype) {
    throw Error(
        Errc::kUnsupported,
        fmt::format("{}: tensor '{}' is {}, wanted F32, F16 or BF16; convert the file first", where,
                    name, dtype_name));
  }
  return {*dtype, shape};
}

SafetensorsHeader scan_safetensors(const File& file) {
  const std::string where = printable(file.path().string(), 400);
  check_size(file.size(), where);
  std::array<std::byte, 8> length;
  file.read(0, length);
  std::string text(static_cast<size_t>(header_size(file.size(), length, where)), '\0');
  file.read(8, std::as_writable_bytes(std::span(text)));
  return parse_header(text, file.size(), where);
}

SafetensorsHeader scan_safetensors(std::span<const std::byte> bytes, std::string_view where) {
  check_size(bytes.size(), where);
  std::array<std::byte, 8> length;
  std::memcpy(length.data(), bytes.data(), 8);
  const size_t n = static_cast<size_t>(header_size(bytes.size(), length, where));
  return parse_header({reinterpret_cast<const char*>(bytes.data()) + 8, n}, bytes.size(), where);
}

}  // namespace halftone::io
