#include "workflow/compare/lpips_weights.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/text.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kComponent = "lpips/";
constexpr std::string_view kNetworks =
    "wanted torchvision's AlexNet or VGG16 (features.0.weight, ...) and lpips' own layers "
    "(lin0.model.1.weight, ...)";

bool is_weight_file(const fs::path& path) {
  const std::string extension = path.extension().string();
  const auto known = {".safetensors", ".pth", ".pt", ".bin"};
  return std::ranges::find(known, extension) != known.end();
}

std::vector<fs::path> files_of(const std::vector<fs::path>& paths) {
  std::vector<fs::path> files;
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    const size_t before = files.size();
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_regular_file() && is_weight_file(entry.path())) files.push_back(entry.path());
    }
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(before), files.end());
    if (files.size() > before) continue;
    throw Error(Errc::kNotFound, fmt::format("{}: no .safetensors, .pth, .pt or .bin file; {}",
                                             path.string(), kNetworks));
  }
  return files;
}

// The part of `name` before its first dot; both are taken off.
std::string_view take_word(std::string_view& name) {
  const size_t dot = std::min(name.find('.'), name.size());
  const std::string_view word = name.substr(0, dot);
  name.remove_prefix(std::min(dot + 1, name.size()));
  return word;
}

// Our name of a tensor; empty for what LPIPS does not need.
std::string canonical_name(std::string_view name) {
  if (name.starts_with("module.")) name.remove_prefix(7);
  if (name.starts_with("features.")) return std::string(name);
  const std::string_view first = take_word(name);
  if (first == "net" && take_word(name).starts_with("slice")) {
    return fmt::format("features.{}", name);
  }
  if (first == "lins" && name.ends_with(".model.1.weight")) {
    return fmt::format("lin{}", take_word(name));
  }
  if (first.starts_with("lin") && name == "model.1.weight") return std::string(first);
  return {};
}

bool fits(const Shape& got, const Shape& wanted) {
  if (got.rank() != wanted.rank()) return false;
  for (int i = 0; i < static_cast<int>(got.rank()); ++i) {
    if (wanted[i] >= 0 ? got[i] != wanted[i] : got[i] < 1) return false;
  }
  return true;
}

std::string describe(const Shape& shape) {
  std::string text = to_string(shape);
  for (size_t at = 0; (at = text.find("-1")) != std::string::npos;) text.replace(at, 2, "any");
  return text;
}

std::string feature(int64_t index, std::string_view tensor) {
  return fmt::format("features.{}.{}", index, tensor);
}

}  // namespace

LpipsWeights::LpipsWeights(const std::vector<fs::path>& paths, const Logger& logger) {
  for (const fs::path& path : files_of(paths)) {
    files_.emplace_back(path);
    for (const std::string& warning : files_.back().warnings()) {
      log(logger, LogLevel::kWarning, "io", warning);
    }
    add(files_.size() - 1);
  }
  choose_net();
  check_layers();
  read_linear();
}

std::string LpipsWeights::where() const {
  std::string text;
  for (const io::TensorFile& file : files_) {
    text += (text.empty() ? "" : ", ") + file.path().string();
  }
  return text;
}

void LpipsWeights::add(size_t file) {
  for (const auto& [name, shape] : files_[file].shapes()) {
    const std::string ours = canonical_name(name);
    if (ours.empty()) continue;
    const auto [known, is_new] = tensors_.emplace(ours, Source{file, name, shape});
    // A whole lpips.LPIPS names its linear layers twice.
    if (is_new || (known->second.file == file && name.starts_with("lin"))) continue;
    throw Error(Errc::kInvalidArgument,
                fmt::format("LPIPS: '{}' is in {} and in {}; give the files of one network",
                            printable(name), files_[known->second.file].path().string(),
                            files_[file].path().string()));
  }
}

// By the names alone; where they fit none, the first kernel says which one it is nearly.
void LpipsWeights::choose_net() {
  const auto first = tensors_.find(feature(0, "weight"));
  if (first == tensors_.end()) {
    throw Error(Errc::kNotFound,
                fmt::format("{}: no tensor '{}'; {}", where(), feature(0, "weight"), kNetworks));
  }
  const Shape& kernel = first->second.shape;
  for (const models::FeatureNet& net : models::feature_nets()) {
    if (kernel.rank() == 4 && kernel[2] == net.layers.front().kernel) net_ = &net;
  }
  const std::string file = files_[first->second.file].path().string();
  if (net_ == nullptr) {
    throw Error(Errc::kUnsupported, fmt::format("{}: '{}' is {}; {}", file, feature(0, "weight"),
                                                to_string(kernel), kNetworks));
  }
  std::set<std::string> known;
  for (const models::FeatureLayer& layer : net_->layers) {
    known.insert({feature(layer.index, "weight"), feature(layer.index, "bias")});
  }
  for (const auto& [name, source] : tensors_) {
    if (!name.starts_with("features.") || known.contains(name)) continue;
    throw Error(Errc::kUnsupported, fmt::format("{}: '{}' belongs to another network; {}", file,
                                                printable(source.name), kNetworks));
  }
}

const LpipsWeights::Source& LpipsWeights::need(const std::string& name, const Shape& shape) const {
  const auto found = tensors_.find(name);
  const std::string theirs = name.starts_with("lin") ? name + ".model.1.weight" : name;
  if (found == tensors_.end()) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: no tensor '{}'; {}", where(), theirs, kNetworks),
                ErrorDetails{.file = where(), .key = theirs, .wanted = describe(shape)});
  }
  if (fits(found->second.shape, shape)) return found->second;
  const std::string file = files_[found->second.file].path().string();
  throw Error(Errc::kCorruptFile,
              fmt::format("{}: '{}' is {}, wanted {} for LPIPS' {} network", file,
                          printable(found->second.name), to_string(found->second.shape),
                          describe(shape), net_->name),
              ErrorDetails{.file = file,
                           .key = printable(found->second.name),
                           .got = to_string(found->second.shape),
                           .wanted = describe(shape)});
}

void LpipsWeights::check_layers() {
  int64_t channels = 3;
  for (const models::FeatureLayer& layer : net_->layers) {
    const Source& weight =
        need(feature(layer.index, "weight"), {-1, channels, layer.kernel, layer.kernel});
    channels = weight.shape[0];
    need(feature(layer.index, "bias"), {channels});
    widths_.push_back(channels);
  }
}

void LpipsWeights::read_linear() {
  size_t stage = 0;
  for (size_t i = 0; i < net_->layers.size(); ++i) {
    if (!net_->layers[i].ends_stage) continue;
    const Source& source = need(fmt::format("lin{}", stage), {1, widths_[i], 1, 1});
    const Tensor weight = files_[source.file].read(source.name);
    const auto values = weight.values<float>();
    linear_[stage++].assign(values.begin(), values.end());
  }
}

bool LpipsWeights::contains(const std::string& name) const {
  return name.starts_with(kComponent) && tensors_.contains(name.substr(kComponent.size()));
}

TensorType LpipsWeights::type(const std::string& name) const {
  if (!contains(name)) throw Error(Errc::kNotFound, fmt::format("{}: no '{}'", where(), name));
  return {DType::kF32, tensors_.at(name.substr(kComponent.size())).shape};
}

void LpipsWeights::read(const std::string& name, const TensorType& type, std::byte* dst) const {
  const TensorType stored = this->type(name);
  check_internal(stored.shape == type.shape, "LPIPS: a weight of the graph's shape");
  const Source& source = tensors_.at(name.substr(kComponent.size()));
  const Tensor tensor = files_[source.file].read(source.name);
  convert(tensor.data(), DType::kF32, dst, type.dtype,
          static_cast<size_t>(type.shape.num_elements()));
}

}  // namespace halftone::workflow
