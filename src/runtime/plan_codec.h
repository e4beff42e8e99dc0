// The bytes of a plan's sections (docs/plan_format.md): little-endian numbers, counted strings.
#pragma once

#include <bit>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "runtime/plan.h"

namespace halftone::runtime {

static_assert(std::endian::native == std::endian::little, "plan files are little endian");

class ByteWriter {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_integral_v<T>);
    bytes(std::as_bytes(std::span(&value, 1)));
  }
  void text(std::string_view value);
  void bytes(std::span<const std::byte> value) {
    data_.insert(data_.end(), value.begin(), value.end());
  }
  [[nodiscard]] const std::vector<std::byte>& data() const { return data_; }

 private:
  std::vector<std::byte> data_;
};

// Throws kCorruptFile beginning with `origin` and giving the offset when the bytes run out.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> data, std::string origin)
      : data_(data), origin_(std::move(origin)) {}

  template <class T>
  T number() {
    T value{};
    const auto from = take(sizeof(T));
    std::memcpy(&value, from.data(), sizeof(T));
    return value;
  }
  // A number of things of at least `min_bytes` each, so that no file makes us allocate out of
  // proportion.
  size_t count(size_t min_bytes);
  std::string text();
  std::span<const std::byte> take(uint64_t size);
  void expect_end() const;
  [[noreturn]] void fail(std::string_view text) const;

 private:
  std::span<const std::byte> data_;
  std::string origin_;
  size_t at_ = 0;
};

struct PlanSections {
  std::vector<std::byte> head, profiles, literals;
};
[[nodiscard]] PlanSections encode(const Plan& plan);
// Structure only: ids and values are checked by check_plan.
[[nodiscard]] Plan decode(std::span<const std::byte> head, std::span<const std::byte> profiles,
                          std::span<const std::byte> literals, const std::string& origin);

}  // namespace halftone::runtime
