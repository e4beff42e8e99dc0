// libpng reports errors by longjmp, which skips destructors: the functions that call it hold no C++
// objects, all memory belongs to their callers.
#include <csetjmp>
#include <cstdlib>
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

constexpr size_t kCompressAbove = 2048;  // bytes of text
constexpr int kCompressionLevel = 4;

struct Sink {
  unsigned char* data = nullptr;
  size_t size = 0, capacity = 0;
  char error[200] = {};
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  ~Sink() { std::free(data); }
};

void on_error(png_structp png, png_const_charp message) {
  auto* sink = static_cast<Sink*>(png_get_error_ptr(png));
  std::strncpy(sink->error, message, sizeof sink->error - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_write(png_structp png, png_bytep bytes, size_t size) {
  auto* sink = static_cast<Sink*>(png_get_io_ptr(png));
  if (size > sink->capacity - sink->size) {
    const size_t capacity = 2 * sink->capacity + size + 65536;
    void* data = std::realloc(sink->data, capacity);
    if (data == nullptr) png_error(png, "out of memory");
    sink->data = static_cast<unsigned char*>(data);
    sink->capacity = capacity;
  }
  std::memcpy(sink->data + sink->size, bytes, size);
  sink->size += size;
}

void on_flush(png_structp) {}

struct Encode {
  png_structp png;
  png_infop info;
  Sink* sink;
  png_uint_32 width, height;
  png_textp text;
  int num_text;
  png_bytepp rows;
};

bool run(const Encode& e) {
  if (setjmp(png_jmpbuf(e.png)) != 0) return false;
  png_set_write_fn(e.png, e.sink, on_write, on_flush);
  png_set_compression_level(e.png, kCompressionLevel);
  png_set_IHDR(e.png, e.info, e.width, e.height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (e.num_text > 0) png_set_text(e.png, e.info, e.text, e.num_text);
  png_write_info(e.png, e.info);
  png_write_image(e.png, e.rows);
  png_write_end(e.png, nullptr);
  return true;
}

// A chunk in the form libpng takes; `keyword` and `text` own what the png_text points to.
struct PreparedText {
  std::string keyword, text;
  int compression = PNG_ITXT_COMPRESSION_NONE;
};

PreparedText prepare(const TextChunk& chunk) {
  const bool is_valid = !chunk.keyword.empty() && chunk.keyword.size() <= 79 &&
                        chunk.text.find('\0') == std::string::npos && is_utf8(chunk.text);
  if (!is_valid) {
    throw Error(
        Errc::kInvalidArgument,
        fmt::format("PNG text '{}': wanted a keyword of 1 to 79 bytes and UTF-8 text without NUL",
                    printable(chunk.keyword)));
  }
  const bool is_long = chunk.text.size() > kCompressAbove;
  if (chunk.keyword == "parameters") {
    if (auto latin1 = utf8_to_latin1(chunk.text)) {
      return {chunk.keyword, *latin1,
              is_long ? PNG_TEXT_COMPRESSION_zTXt : PNG_TEXT_COMPRESSION_NONE};
    }
  }
  const bool compress = is_long && !chunk.keyword.starts_with("XML:");
  return {chunk.keyword, chunk.text,
          compress ? PNG_ITXT_COMPRESSION_zTXt : PNG_ITXT_COMPRESSION_NONE};
}

png_text view_of(PreparedText& chunk, char* empty) {
  png_text text{};
  text.compression = chunk.compression;
  text.key = chunk.keyword.data();
  text.text = chunk.text.data();
  if (chunk.compression >= PNG_ITXT_COMPRESSION_NONE) {
    text.itxt_length = chunk.text.size();
    text.lang = empty;
    text.lang_key = empty;
  } else {
    text.text_length = chunk.text.size();
  }
  return text;
}

}  // namespace

std::vector<std::byte> encode_png(const RgbImage& image, std::span<const TextChunk> text) {
  check_internal(image.width > 0 && image.height > 0 &&
                     image.rgb.size() ==
                         static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3,
                 "encode_png: size of the image");
  std::vector<PreparedText> prepared;
  for (const TextChunk& chunk : text) prepared.push_back(prepare(chunk));
  char empty[1] = {};
  std::vector<png_text> views;
  for (PreparedText& chunk : prepared) views.push_back(view_of(chunk, empty));
  std::vector<png_bytep> rows;
  const size_t row_bytes = static_cast<size_t>(image.width) * 3;
  for (int y = 0; y < image.height; ++y) {
    // libpng's interface is not const-correct; it only reads the rows.
    rows.push_back(const_cast<png_bytep>(image.rgb.data()) + static_cast<size_t>(y) * row_bytes);
  }
  Sink sink;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &sink, on_error, on_warning);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  const bool is_done = info != nullptr && run({.png = png,
                                               .info = info,
                                               .sink = &sink,
                                               .width = static_cast<png_uint_32>(image.width),
                                               .height = static_cast<png_uint_32>(image.height),
                                               .text = views.data(),
                                               .num_text = static_cast<int>(views.size()),
                                               .rows = rows.data()});
  png_destroy_write_struct(&png, &info);
  if (!is_done) throw Error(Errc::kInternal, fmt::format("cannot encode a PNG: {}", sink.error));
  const auto* begin = reinterpret_cast<const std::byte*>(sink.data);
  return {begin, begin + sink.size};
}

void write_png(const std::filesystem::path& path, const RgbImage& image,
               std::span<const TextChunk> text) {
  const std::vector<std::byte> bytes = encode_png(image, text);
  AtomicFile file(path);
  file.append(bytes);
  file.commit();
}

}  // namespace halftone::io
