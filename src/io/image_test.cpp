#include "io/image.h"

#include <cstring>

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <zlib.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

std::string be32(uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
          static_cast<char>(v)};
}

std::string chunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  const auto crc = static_cast<uint32_t>(
      ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size())));
  return be32(static_cast<uint32_t>(data.size())) + body + be32(crc);
}

std::string deflate(const std::string& data) {
  uLongf size = ::compressBound(data.size());
  std::string out(size, '\0');
  ::compress(reinterpret_cast<Bytef*>(out.data()), &size,
             reinterpret_cast<const Bytef*>(data.data()), data.size());
  out.resize(size);
  return out;
}

constexpr char kSignature[] = "\x89PNG\r\n\x1a\n";

std::string header(uint32_t width, uint32_t height, int depth, int colour, int interlace = 0) {
  std::string data = be32(width) + be32(height);
  for (const int v : {depth, colour, 0, 0, interlace}) data.push_back(static_cast<char>(v));
  return kSignature + chunk("IHDR", data);
}

// A file of one row of raw samples, with `extra` chunks before the pixels.
std::string one_row(uint32_t width, int depth, int colour, const std::string& samples,
                    const std::string& extra = "") {
  return header(width, 1, depth, colour) + extra +
         chunk("IDAT", deflate(std::string(1, '\0') + samples)) + chunk("IEND", "");
}

PngImage decode(const std::string& bytes) {
  return decode_png(std::as_bytes(std::span(bytes)), "in.png");
}

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

RgbImage gradient(int width, int height) {
  RgbImage image{width, height, {}};
  for (int i = 0; i < width * height * 3; ++i) image.rgb.push_back(static_cast<uint8_t>(i * 7));
  return image;
}

using Rgb = std::vector<uint8_t>;

TEST(PngTest, RoundTripOfPixelsAndText) {
  rc::check("round trip", [] {
    const RgbImage image = gradient(*rc::gen::inRange(1, 40), *rc::gen::inRange(1, 40));
    const std::vector<TextChunk> text = {
        {"parameters", *rc::gen::element<std::string>("a cat\nSteps: 20", "caf\xc3\xa9",
                                                      "\xe7\x8c\xab", std::string(5000, 'x'), "")},
        {"halftone", *rc::gen::element<std::string>("{}", std::string(5000, '7'))},
        {"XML:com.adobe.xmp", "<x:xmpmeta/>"}};
    const PngImage back = decode(text_of(encode_png(image, text)));
    RC_ASSERT(back.image.rgb == image.rgb);
    RC_ASSERT(back.image.width == image.width && back.info.height == image.height);
    RC_ASSERT(back.info.text == text);
    RC_ASSERT(back.info.warnings.empty());
  });
}

TEST(PngTest, ChunkKindsFollowTheRules) {
  const auto bytes = [](const std::string& keyword, const std::string& text) {
    const TextChunk chunks[] = {{keyword, text}};
    return text_of(encode_png(gradient(2, 2), chunks));
  };
  const auto has = [](const std::string& png, const char* type) {
    return png.find(type) != std::string::npos;
  };
  EXPECT_TRUE(has(bytes("parameters", "caf\xc3\xa9"), "tEXtparameters"));
  EXPECT_TRUE(has(bytes("parameters", "caf\xc3\xa9"), "caf\xe9"));  // Latin-1 in the file
  EXPECT_TRUE(has(bytes("parameters", "\xe7\x8c\xab"), "iTXtparameters"));
  EXPECT_TRUE(has(bytes("parameters", std::string(3000, 'a')), "zTXtparameters"));
  EXPECT_TRUE(has(bytes("halftone", "{}"), "iTXthalftone"));
  EXPECT_EQ(bytes("halftone", "{}"), bytes("halftone", "{}"));
  const TextChunk bad[] = {{"parameters", std::string("a\0b", 3)}};
  EXPECT_THROW((void)encode_png(gradient(1, 1), bad), Error);
}

TEST(PngTest, ReadsEveryPixelFormat) {
  EXPECT_EQ(decode(one_row(2, 8, 2, {1, 2, 3, 4, 5, 6})).image.rgb, (Rgb{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(decode(one_row(2, 8, 0, {10, 20})).image.rgb, (Rgb{10, 10, 10, 20, 20, 20}));
  EXPECT_EQ(decode(one_row(8, 1, 0, std::string(1, '\x40'))).image.rgb[3], 255);
  EXPECT_EQ(decode(one_row(1, 16, 0, "\x80\x80")).image.rgb, (Rgb{128, 128, 128}));
  // Alpha on white: half transparent black, fully transparent, opaque.
  EXPECT_EQ(decode(one_row(3, 8, 4, std::string("\x00\x80\x00\x00\x07\xff", 6))).image.rgb,
            (Rgb{127, 127, 127, 255, 255, 255, 7, 7, 7}));
  const std::string palette = chunk("PLTE", "\x09\x08\x07\x06\x05\x04");
  EXPECT_EQ(decode(one_row(8, 1, 3, std::string(1, '\x40'), palette)).image.rgb[3], 6);
  EXPECT_EQ(
      decode(one_row(1, 8, 3, std::string(1, '\0'), palette + chunk("tRNS", std::string(1, '\0'))))
          .image.rgb,
      (Rgb{255, 255, 255}));
  // Adam7: a 1x1 image is its first pass.
  EXPECT_EQ(decode(header(1, 1, 8, 2, 1) + chunk("IDAT", deflate(std::string("\0abc", 4))) +
                   chunk("IEND", ""))
                .image.rgb,
            (Rgb{'a', 'b', 'c'}));
}

TEST(PngTest, DamagedFilesSayWhy) {
  const std::string good = one_row(2, 8, 2, "abcdef");
  const std::string end = chunk("IEND", "");
  const auto wrong_crc = [](std::string png, const char* type) {
    const size_t at = png.find(type);
    png[at + 4] = static_cast<char>(png[at + 4] ^ 1);
    return png;
  };
  struct Row {
    std::string name, bytes;
    Errc code;
    std::string substring;
  };
  const std::vector<Row> rows = {
      {"empty", "", Errc::kCorruptFile, "no PNG signature"},
      {"JPEG", "\xff\xd8\xff\xe0", Errc::kUnsupported, "is a JPEG"},
      {"GIF", "GIF89a", Errc::kUnsupported, "is a GIF"},
      {"SVG", "<svg xmlns", Errc::kUnsupported, "is an SVG"},
      {"WebP", "RIFF....WEBP", Errc::kUnsupported, "is a WebP"},
      {"signature only", kSignature, Errc::kCorruptFile, "ends early"},
      {"no pixels", header(2, 1, 8, 2) + end, Errc::kCorruptFile, "damaged PNG"},
      {"truncated", good.substr(0, good.size() - 14), Errc::kCorruptFile, "ends early"},
      {"zero size", header(0, 1, 8, 2) + end, Errc::kCorruptFile, "damaged PNG"},
      {"65535 squared", header(65535, 65535, 1, 0) + chunk("IDAT", deflate("x")) + end,
       Errc::kCorruptFile, "the limit is"},
      {"2^31 wide", header(0x7fffffff, 1, 1, 0) + end, Errc::kCorruptFile, "damaged PNG"},
      {"bad depth", header(1, 1, 3, 2) + end, Errc::kCorruptFile, "damaged PNG"},
      {"IDAT of 2^31", header(1, 1, 8, 2) + "\x80" + std::string("\0\0\0IDAT", 7),
       Errc::kCorruptFile, "damaged PNG"},
      {"text of 1.7 GB", header(1, 1, 8, 2) + "ep`atEXtk", Errc::kCorruptFile,
       "of 1701863521 bytes"},
      {"IHDR CRC", wrong_crc(good, "IHDR"), Errc::kCorruptFile, "CRC"},
      {"IDAT CRC", wrong_crc(good, "IDAT"), Errc::kCorruptFile, "damaged PNG"},
      {"palette missing", one_row(8, 1, 3, "x"), Errc::kCorruptFile, "PLTE"},
  };
  EXPECT_NO_THROW((void)decode(good));
  for (const Row& row : rows) {
    try {
      (void)decode(row.bytes);
      ADD_FAILURE() << row.name << ": accepted";
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(to_string(e.code()), to_string(row.code)) << row.name << ": " << message;
      EXPECT_TRUE(message.starts_with("in.png: ")) << message;
      EXPECT_NE(message.find(row.substring), std::string::npos) << row.name << ": " << message;
    }
  }
}

TEST(PngTest, DamagedTextIsAWarning) {
  std::string text = chunk("tEXt", std::string("parameters\0cat", 14));
  text.back() = static_cast<char>(text.back() ^ 1);
  const PngImage image = decode(one_row(2, 8, 2, "abcdef", text));
  EXPECT_TRUE(image.info.text.empty());
  EXPECT_EQ(image.info.warnings.size(), 1U);
  // 64 MiB of zeros in a compressed chunk of 64 KiB.
  const std::string bomb = chunk(
      "zTXt", std::string("parameters\0\0", 12) + deflate(std::string(size_t{64} << 20, '\0')));
  const PngImage bombed = decode(one_row(2, 8, 2, "abcdef", bomb));
  EXPECT_EQ(bombed.image.rgb.size(), 6U);
  EXPECT_TRUE(bombed.info.text.empty());
  EXPECT_FALSE(bombed.info.warnings.empty());
  const PngImage not_utf8 =
      decode(one_row(2, 8, 2, "abcdef", chunk("iTXt", std::string("k\0\0\0\0\0\xff", 7))));
  EXPECT_TRUE(not_utf8.info.text.empty());
}

TEST(PngTest, BitFlipsNeverCrash) {
  const TextChunk chunks[] = {{"parameters", "a cat"}, {"halftone", "{}"}};
  const std::string good = text_of(encode_png(gradient(9, 5), chunks));
  rc::check("bit flips", [&] {
    std::string bytes = good;
    const auto position = *rc::gen::inRange<size_t>(0, bytes.size());
    bytes[position] = static_cast<char>(bytes[position] ^ (1 << *rc::gen::inRange(0, 8)));
    try {
      RC_ASSERT(decode(bytes).image.rgb.size() == size_t{9 * 5 * 3});
    } catch (const Error& e) {
      RC_ASSERT(e.code() == Errc::kCorruptFile);
    }
  });
}

TEST(PngTest, FilesAppearWhole) {
  const TemporaryFolder temporary;
  const fs::path& folder = temporary.path();
  const TextChunk chunks[] = {{"parameters", "a cat"}};
  write_png(folder / "a.png", gradient(3, 2), chunks);
  EXPECT_EQ(list_folder(folder), std::vector<std::string>{"a.png"});
  const PngInfo info = read_png_info(folder / "a.png");
  EXPECT_EQ(info.width, 3);
  EXPECT_EQ(info.height, 2);
  EXPECT_EQ(info.text.at(0).text, "a cat");
  EXPECT_THROW(write_png(folder / "none" / "a.png", gradient(1, 1)), Error);
}

}  // namespace
}  // namespace halftone::io
