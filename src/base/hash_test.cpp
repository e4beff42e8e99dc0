#include "base/hash.h"

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
