// PNG files: 8-bit RGB with text chunks out, every kind of PNG in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::io {

inline constexpr int64_t kMaxImagePixels = int64_t{64} << 20;

struct RgbImage {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb{};  // height * width * 3, rows from the top
};

// Text is UTF-8 without NUL; the keyword has 1 to 79 Latin-1 characters.
struct TextChunk {
  std::string keyword, text;
  bool operator==(const TextChunk&) const = default;
};

struct PngInfo {
  int width = 0, height = 0;
  std::vector<TextChunk> text;
  std::vector<std::string> warnings;  // damaged ancillary chunks, which were skipped
};

struct PngImage {
  RgbImage image;
  PngInfo info;
};

// "parameters" is written as tEXt, as iTXt when it is not Latin-1, and compressed above 2 KiB; all
// other keywords as iTXt, compressed above 2 KiB but for XMP. The bytes depend on the arguments
// alone.
[[nodiscard]] std::vector<std::byte> encode_png(const RgbImage& image,
                                                std::span<const TextChunk> text);
// Whole or not at all.
void write_png(const std::filesystem::path& path, const RgbImage& image,
               std::span<const TextChunk> text = {});

// Any bit depth and colour type, interlaced or not; 16 bits are scaled to 8, alpha is composited on
// white. Errors (kCorruptFile, kUnsupported) begin with `where`.
[[nodiscard]] PngImage decode_png(std::span<const std::byte> bytes, std::string_view where);
[[nodiscard]] PngImage read_png(const std::filesystem::path& path);
// Size and text alone.
[[nodiscard]] PngInfo read_png_info(const std::filesystem::path& path);

}  // namespace halftone::io
