// As in png_write.cpp, the functions that may be left by longjmp hold no C++ objects.
#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>

#include <fmt/format.h>
#include <png.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/text.h"
#include "io/image.h"
#include "io/png_text.h"

namespace halftone::io {
namespace {

constexpr png_uint_32 kMaxExtent = 65535;
constexpr int kMaxChunks = 100;
constexpr size_t kMaxChunkBytes = size_t{8} << 20;  // of text and other ancillary chunks, unpacked
constexpr uint64_t kMaxFileBytes = uint64_t{512} << 20;

struct Source {
  const std::byte* data = nullptr;
  size_t size = 0, position = 0;
  char error[200] = {};
  std::array<char[120], 8> warnings = {};
  size_t num_warnings = 0;
};

void on_error(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::strncpy(source->error, message, sizeof source->error - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  if (source->num_warnings >= source->warnings.size()) return;
  std::strncpy(source->warnings[source->num_warnings++], message, sizeof source->warnings[0] - 1);
}

void on_read(png_structp png, png_bytep out, size_t size) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (size > source->size - source->position) png_error(png, "the file ends early");
  std::memcpy(out, source->data + source->position, size);
  source->position += size;
}

// Reads up to the pixels and asks for 8-bit RGB or RGBA.
bool read_header(png_structp png, png_infop info, Source* source) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, source, on_read);
  png_set_user_limits(png, kMaxExtent, kMaxExtent);
  png_set_chunk_cache_max(png, kMaxChunks);
  png_set_chunk_malloc_max(png, kMaxChunkBytes);
  png_read_info(png, info);
  png_set_expand(png);
  png_set_scale_16(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool read_pixels(png_structp png, png_infop info, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_image(png, rows);
  png_read_end(png, info);
  return true;
}

// Owns libpng's structures.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view where) : where_(where) {
    source_.data = bytes.data();
    source_.size = bytes.size();
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source_, on_error, on_warning);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, &info_, nullptr);
      throw Error(Errc::kOutOfMemory, "cannot allocate a PNG reader");
    }
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  PngImage read() {
    if (!read_header(png_, info_, &source_)) fail(source_.error);
    PngImage out;
    const int64_t width = png_get_image_width(png_, info_);
    const int64_t height = png_get_image_height(png_, info_);
    if (width * height > kMaxImagePixels) {
      fail(fmt::format("{} x {} pixels, the limit is {}", width, height, kMaxImagePixels));
    }
    out.image.width = out.info.width = static_cast<int>(width);
    out.image.height = out.info.height = static_cast<int>(height);
    read_pixels_into(out.image);
    add_text(out.info);
    for (size_t i = 0; i < source_.num_warnings; ++i) {
      out.info.warnings.push_back(fmt::format("{}: {}", where_, printable(source_.warnings[i])));
    }
    return out;
  }

 private:
  [[noreturn]] void fail(std::string_view text) const {
    throw Error(Errc::kCorruptFile, fmt::format("{}: damaged PNG near byte {}: {}", where_,
                                                source_.position, printable(text)));
  }

  void read_pixels_into(RgbImage& image) {
    const size_t channels = png_get_channels(png_, info_);
    const size_t row_bytes = png_get_rowbytes(png_, info_);
    check_internal((channels == 3 || channels == 4) &&
                       row_bytes == channels * static_cast<size_t>(image.width),
                   "libpng gave another pixel format than asked");
    const auto height = static_cast<size_t>(image.height);
    std::vector<uint8_t> pixels(height * row_bytes);
    std::vector<png_bytep> rows;
    for (size_t y = 0; y < height; ++y) rows.push_back(pixels.data() + y * row_bytes);
    if (!read_pixels(png_, info_, rows.data())) fail(source_.error);
    if (channels == 3) {
      image.rgb = std::move(pixels);
      return;
    }
    image.rgb.resize(pixels.size() / 4 * 3);
    for (size_t i = 0; i < pixels.size() / 4; ++i) {
      const unsigned alpha = pixels[4 * i + 3];
      for (size_t c = 0; c < 3; ++c) {
        const unsigned mixed = pixels[4 * i + c] * alpha + 255 * (255 - alpha);
        image.rgb[3 * i + c] = static_cast<uint8_t>((mixed + 127) / 255);
      }
    }
  }

  void add_text(PngInfo& out) {
    png_textp text = nullptr;
    int count = 0;
    png_get_text(png_, info_, &text, &count);
    for (int i = 0; i < count; ++i) {
      const bool is_utf8_chunk = text[i].compression >= PNG_ITXT_COMPRESSION_NONE;
      const std::string_view bytes(text[i].text == nullptr ? "" : text[i].text,
                                   is_utf8_chunk ? text[i].itxt_length : text[i].text_length);
      if (is_utf8_chunk && !is_utf8(bytes)) {
        out.warnings.push_back(
            fmt::format("{}: text '{}' is not UTF-8", where_, printable(text[i].key)));
        continue;
      }
      out.text.push_back({latin1_to_utf8(text[i].key),
                          is_utf8_chunk ? std::string(bytes) : latin1_to_utf8(bytes)});
    }
  }

  std::string_view where_;
  Source source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

// The kind of a file by its first bytes, to refuse it by name.
void check_signature(std::span<const std::byte> bytes, std::string_view where) {
  using namespace std::string_view_literals;
  struct Kind {
    std::string_view signature, name;
  };
  constexpr std::array kOthers{Kind{"\xff\xd8\xff"sv, "a JPEG"}, Kind{"GIF8"sv, "a GIF"},
                               Kind{"RIFF"sv, "a WebP"},         Kind{"<svg"sv, "an SVG"},
                               Kind{"<?xml"sv, "an SVG"},        Kind{"BM"sv, "a BMP"}};
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with("\x89PNG\r\n\x1a\n"sv)) return;
  for (const Kind& kind : kOthers) {
    if (text.starts_with(kind.signature)) {
      throw Error(Errc::kUnsupported,
                  fmt::format("{}: is {} image, wanted a PNG; convert it first", where, kind.name));
    }
  }
  throw Error(Errc::kCorruptFile, fmt::format("{}: no PNG signature at byte 0", where));
}

// Every chunk up to IEND must lie in the file: libpng allocates what a chunk claims before it reads
// it.
void check_chunks(std::span<const std::byte> bytes, std::string_view where) {
  for (size_t position = 8;;) {
    const size_t remaining = bytes.size() - position;
    std::array<unsigned char, 8> head{};
    std::memcpy(head.data(), bytes.data() + position, std::min(remaining, head.size()));
    const uint64_t length = png_get_uint_32(head.data());
    const std::string_view type(reinterpret_cast<const char*>(head.data()) + 4, 4);
    if (remaining < 12 || length > remaining - 12) {
      throw Error(
          Errc::kCorruptFile,
          fmt::format(
              "{}: damaged PNG near byte {}: the file ends early (a chunk '{}' of {} bytes, "
              "{} bytes follow)",
              where, position, printable(type), length, remaining));
    }
    if (type == "IEND") return;
    position += 12 + static_cast<size_t>(length);
  }
}

}  // namespace

PngImage decode_png(std::span<const std::byte> bytes, std::string_view where) {
  check_signature(bytes, where);
  check_chunks(bytes, where);
  return Reader(bytes, where).read();
}

PngImage read_png(const std::filesystem::path& path) {
  const std::string where = printable(path.string(), 400);
  const std::string bytes = read_text_file(path, kMaxFileBytes);
  return decode_png(std::as_bytes(std::span(bytes)), where);
}

PngInfo read_png_info(const std::filesystem::path& path) { return read_png(path).info; }

}  // namespace halftone::io
