#include "outputs.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "args.h"

namespace halftone::cli {
namespace {

namespace fs = std::filesystem;

struct Pattern {
  size_t begin, end;  // of "%03d" in the path
  int width;
};

// The one "%d" or "%0Nd" of a path; nullopt without '%'.
std::optional<Pattern> find_pattern(const std::string& path) {
  const size_t begin = path.find('%');
  if (begin == std::string::npos) return std::nullopt;
  size_t end = begin + 1;
  int width = 0;
  while (end < path.size() && path[end] >= '0' && path[end] <= '9' && end < begin + 4) {
    width = width * 10 + (path[end++] - '0');
  }
  if (end >= path.size() || path[end] != 'd' || path.find('%', end) != std::string::npos ||
      width > 9) {
    throw UsageError(fmt::format("--output {}: wanted at most one %d or %03d", path));
  }
  return Pattern{begin, end + 1, width};
}

bool is_there(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

std::string numbered(const std::string& path, int number) {
  const fs::path file(path);
  return (file.parent_path() /
          fmt::format("{}_{}{}", file.stem().string(), number, file.extension().string()))
      .string();
}

void need_folder_of(const std::string& path, std::string_view flag) {
  const fs::path folder = fs::path(path).parent_path();
  std::error_code ignored;
  if (folder.empty() || fs::is_directory(folder, ignored)) return;
  throw UsageError(fmt::format("{} {}: the folder {} does not exist", flag, path, folder.string()));
}

OutputNames::OutputNames(OutputArgs args, int num_images, std::string extension)
    : args_(std::move(args)),
      num_images_(num_images),
      extension_(std::move(extension)),
      is_default_(args_.output.empty()) {
  if (is_default_) args_.output = "output" + extension_;
  const std::string file = fs::path(args_.output).filename().string();
  if (file.empty() || file == "." || file == "..") {
    throw UsageError(fmt::format(
        "--output {}: names a folder, wanted a file; --output-dir takes a folder", args_.output));
  }
  if (fs::path(args_.output).extension().empty()) args_.output += extension_;
  const std::string got = fs::path(args_.output).extension().string();
  if (got != extension_) {
    throw UsageError(
        fmt::format("--output {}: got extension '{}', wanted '{}'; this version writes "
                    "png (and safetensors for --output-type latent)",
                    args_.output, got, extension_));
  }
  if (!args_.output_dir.empty() && fs::path(args_.output).is_relative()) {
    args_.output = (fs::path(args_.output_dir) / args_.output).string();
  }
  if (!is_default_) return;
  while (is_there(first_number_ == 0 ? args_.output : numbered(args_.output, first_number_))) {
    ++first_number_;
  }
  if (num_images_ > 1) first_number_ = std::max(first_number_, 1);
}

std::string OutputNames::name(int index) const {
  if (const auto pattern = find_pattern(args_.output)) {
    return fmt::format("{}{:0{}d}{}", args_.output.substr(0, pattern->begin), index, pattern->width,
                       args_.output.substr(pattern->end));
  }
  if (first_number_ > 0) return numbered(args_.output, first_number_ + index);
  return num_images_ > 1 ? numbered(args_.output, index + 1) : args_.output;
}

void OutputNames::check() const {
  const fs::path folder = fs::path(name(0)).parent_path();
  std::error_code ignored;
  if (!folder.empty() && !fs::is_directory(folder, ignored)) {
    if (args_.output_dir.empty() || !fs::create_directories(folder, ignored)) {
      throw UsageError(
          fmt::format("--output {}: the folder {} does not exist", args_.output, folder.string()));
    }
  }
  if (!args_.no_clobber) return;
  for (int i = 0; i < num_images_; ++i) {
    if (is_there(name(i))) {
      throw UsageError(fmt::format("--no-clobber: {} exists already", name(i)));
    }
  }
}

std::string OutputNames::next() {
  // Another process may have taken the number since.
  const bool counts = is_default_ && !find_pattern(args_.output);
  while (counts && is_there(name(index_))) ++first_number_;
  return name(index_++);
}

}  // namespace halftone::cli
