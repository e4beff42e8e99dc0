// SHA-256 (identity of contents) and CRC-32C (damage in headers).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/sha256_constants.h"

namespace halftone {

using Sha256Digest = std::array<uint8_t, 32>;

// Incremental SHA-256 (FIPS 180-4). After finish() the object must not be used again.
class Sha256 {
 public:
  void update(const void* data, size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  // A length-prefixed field, so that consecutive fields cannot be confused with each other.
  void update_field(std::string_view text);
  [[nodiscard]] Sha256Digest finish();

 private:
  std::array<uint32_t, 8> state_ = kSha256Start;
  std::array<uint8_t, 64> block_{};
  uint64_t size_ = 0;  // bytes so far
};

[[nodiscard]] Sha256Digest sha256(std::span<const std::byte> data);
[[nodiscard]] Sha256Digest sha256(std::string_view text);

// A hash of the same strength for gigabytes: the 32-bit words of `data` (padded with zeros) are
// dealt in turn to 16 SHA-256 states, which vector instructions advance together; the digest is
// SHA-256 of length and final states. Several times as fast as sha256, with another result.
[[nodiscard]] Sha256Digest sha256_lanes(std::span<const std::byte> data);

// Lower-case hexadecimal.
[[nodiscard]] std::string to_hex(std::span<const uint8_t> bytes);

// CRC-32C (Castagnoli, as in iSCSI). Pass the previous result as `crc` to continue.
[[nodiscard]] uint32_t crc32c(const void* data, size_t size, uint32_t crc = 0);

}  // namespace halftone
