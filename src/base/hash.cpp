#include "base/hash.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/sha256_constants.h"

namespace halftone {
namespace {

uint32_t load_be32(const uint8_t* p) {
  uint32_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap32(v);
}

void compress(std::array<uint32_t, 8>& state, const uint8_t* data, size_t num_blocks) {
  for (; num_blocks > 0; --num_blocks, data += 64) {
    std::array<uint32_t, 64> w;
    for (size_t i = 0; i < 16; ++i) w[i] = load_be32(data + 4 * i);
    for (size_t i = 16; i < 64; ++i) {
      const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t t1 = h + s1 + (g ^ (e & (f ^ g))) + kSha256Round[i] + w[i];
      const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t2 = s0 + ((a & b) | (c & (a | b)));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
    const std::array<uint32_t, 8> v{a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += v[i];
  }
}

constexpr uint32_t kCastagnoli = 0x82f63b78U;  // reflected polynomial

constexpr std::array<std::array<uint32_t, 256>, 8> make_crc_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1U) != 0 ? kCastagnoli : 0U);
    tables[0][i] = c;
  }
  for (size_t t = 1; t < 8; ++t) {
    for (size_t i = 0; i < 256; ++i) {
      const uint32_t c = tables[t - 1][i];
      tables[t][i] = (c >> 8) ^ tables[0][c & 0xffU];
    }
  }
  return tables;
}

constexpr auto kCrcTables = make_crc_tables();

}  // namespace

void Sha256::update(const void* data, size_t size) {
  const auto* p = static_cast<const uint8_t*>(data);
  if (size == 0) return;
  const size_t filled = static_cast<size_t>(size_ % 64);
  size_ += size;
  if (filled > 0) {
    const size_t n = std::min(size, 64 - filled);
    std::memcpy(block_.data() + filled, p, n);
    p += n;
    size -= n;
    if (filled + n < 64) return;
    compress(state_, block_.data(), 1);
  }
  compress(state_, p, size / 64);
  std::memcpy(block_.data(), p + size / 64 * 64, size % 64);
}

void Sha256::update_field(std::string_view text) {
  const uint64_t size = text.size();
  update(&size, sizeof size);
  update(text);
}

Sha256Digest Sha256::finish() {
  const uint64_t bits = size_ * 8;
  const size_t filled = static_cast<size_t>(size_ % 64);
  const size_t padding = filled < 56 ? 56 - filled : 120 - filled;
  std::array<uint8_t, 72> tail{0x80};
  for (size_t i = 0; i < 8; ++i) tail[padding + i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
  update(tail.data(), padding + 8);
  Sha256Digest digest;
  for (size_t i = 0; i < 8; ++i) {
    const uint32_t word = __builtin_bswap32(state_[i]);
    std::memcpy(digest.data() + 4 * i, &word, 4);
  }
  return digest;
}

Sha256Digest sha256(std::span<const std::byte> data) {
  Sha256 hash;
  hash.update(data.data(), data.size());
  return hash.finish();
}

Sha256Digest sha256(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

std::string to_hex(std::span<const uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (const uint8_t b : bytes) {
    out.push_back(kDigits[b >> 4]);
    out.push_back(kDigits[b & 15U]);
  }
  return out;
}

uint32_t crc32c(const void* data, size_t size, uint32_t crc) {
  const auto* p = static_cast<const uint8_t*>(data);
  crc = ~crc;
  const auto& t = kCrcTables;
  for (; size >= 8; size -= 8, p += 8) {
    uint64_t word = 0;
    std::memcpy(&word, p, 8);
    word ^= crc;
    crc = 0;
    for (size_t i = 0; i < 8; ++i) crc ^= t[7 - i][(word >> (8 * i)) & 0xffU];
  }
  for (; size > 0; --size, ++p) crc = (crc >> 8) ^ t[0][(crc ^ *p) & 0xffU];
  return ~crc;
}

}  // namespace halftone
