#include "base/hash.h"

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace halftone {
namespace {

// FIPS 180-4 examples and the one-million-'a' vector.
TEST(Sha256Test, PublishedVectors) {
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(to_hex(sha256(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, AnySplitGivesTheSameDigest) {
  std::string text(300, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  const auto whole = sha256(text);
  for (size_t first = 0; first <= text.size(); first += 13) {
    Sha256 hash;
    hash.update(text.substr(0, first));
    hash.update(text.substr(first));
    EXPECT_EQ(hash.finish(), whole) << first;
  }
}

TEST(Sha256Test, FieldsDoNotRunTogether) {
  Sha256 a;
  a.update_field("ab");
  a.update_field("c");
  Sha256 b;
  b.update_field("a");
  b.update_field("bc");
  EXPECT_NE(a.finish(), b.finish());
}

// The definition written out: words dealt to 16 streams, each compressed by the plain function.
TEST(Sha256LanesTest, EqualsItsDefinition) {
  const auto rotr = [](uint32_t x, int n) { return (x >> n) | (x << (32 - n)); };
  for (const size_t size : {0U, 1U, 4U, 1000U, 1024U, 5000U}) {
    std::vector<std::byte> data(size);
    for (size_t i = 0; i < size; ++i) data[i] = static_cast<std::byte>(i * 37 + i / 256);
    std::vector<uint32_t> words((size + 1023) / 1024 * 256);
    if (size > 0) std::memcpy(words.data(), data.data(), size);
    std::array<std::array<uint32_t, 16>, 8> states{};
    for (size_t lane = 0; lane < 16; ++lane) {
      auto state = kSha256Start;
      for (size_t block = 0; block < words.size() / 256; ++block) {
        std::array<uint32_t, 64> w{};
        for (size_t i = 0; i < 16; ++i) w[i] = words[block * 256 + i * 16 + lane];
        for (size_t i = 16; i < 64; ++i) {
          w[i] = w[i - 16] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ (w[i - 15] >> 3)) +
                 w[i - 7] + (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ (w[i - 2] >> 10));
        }
        auto [a, b, c, d, e, f, g, h] = state;
        for (size_t i = 0; i < 64; ++i) {
          const uint32_t t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                              kSha256Round[i] + w[i];
          const uint32_t t2 =
              (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
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
      for (size_t i = 0; i < 8; ++i) states[i][lane] = state[i];
    }
    Sha256 hash;
    const uint64_t length = size;
    hash.update(&length, sizeof length);
    hash.update(states.data(), sizeof states);
    EXPECT_EQ(sha256_lanes(data), hash.finish()) << size;
  }
}

// RFC 3720 appendix B.4.
TEST(Crc32cTest, PublishedVectors) {
  const std::vector<uint8_t> zeros(32, 0);
  const std::vector<uint8_t> ones(32, 0xff);
  std::vector<uint8_t> up(32);
  for (size_t i = 0; i < 32; ++i) up[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(crc32c(zeros.data(), 32), 0x8a9136aaU);
  EXPECT_EQ(crc32c(ones.data(), 32), 0x62a8ab43U);
  EXPECT_EQ(crc32c(up.data(), 32), 0x46dd794eU);
  EXPECT_EQ(crc32c("123456789", 9), 0xe3069283U);
}

TEST(Crc32cTest, Continues) {
  const std::string text = "123456789";
  EXPECT_EQ(crc32c(text.data() + 4, 5, crc32c(text.data(), 4)), 0xe3069283U);
}

}  // namespace
}  // namespace halftone
