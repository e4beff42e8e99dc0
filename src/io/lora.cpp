#include "io/lora.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include <fmt/format.h>

#include "base/text.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

fs::path file_of(const std::string& path, const HfCacheLocations& cache) {
  std::error_code ignored;
  fs::path folder = !fs::exists(path, ignored) && is_model_id(path) ? find_in_hf_cache(path, cache)
                                                                    : fs::path(path);
  if (!fs::is_directory(folder, ignored)) return folder;
  fs::path usual = folder / "pytorch_lora_weights.safetensors";
  if (fs::exists(usual, ignored)) return usual;
  std::vector<fs::path> found;
  for (const std::string& name : list_folder(folder)) {
    if (name.ends_with(".safetensors")) found.push_back(folder / name);
  }
  if (found.size() == 1) return found[0];
  throw Error(Errc::kNotFound,
              fmt::format("{}: wanted a LoRA (pytorch_lora_weights.safetensors), found {} "
                          "safetensors files; name one of them",
                          folder.string(), found.size()));
}

// A factor as rows of f32.
std::vector<float> read_factor(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  const int64_t count = entry.shape.num_elements();
  std::vector<float> values(static_cast<size_t>(count));
  const uint64_t bad = file.read(entry, 0, static_cast<uint64_t>(count), DType::kF32,
                                 std::as_writable_bytes(std::span(values)).data());
  if (bad > 0) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: '{}': {} values are not finite", file.file().path().string(),
                            printable(entry.name, 200), bad));
  }
  return values;
}

// sum += up[row] * down over the columns [first, last), for rows [begin, end).
void add_rows(const std::vector<float>& up, const std::vector<float>& down, int64_t rank,
              int64_t columns, float scale, std::span<float> weight, int64_t begin, int64_t end) {
  constexpr int64_t kTile = 1024;  // of columns: rank rows of down stay in the cache
  std::array<float, kTile> sum{};
  for (int64_t first = 0; first < columns; first += kTile) {
    const auto width = static_cast<size_t>(std::min(kTile, columns - first));
    for (int64_t row = begin; row < end; ++row) {
      std::fill_n(sum.begin(), width, 0.0F);
      for (int64_t k = 0; k < rank; ++k) {
        const float factor = up[static_cast<size_t>(row * rank + k)];
        const float* from = &down[static_cast<size_t>(k * columns + first)];
        for (size_t i = 0; i < width; ++i) sum[i] += factor * from[i];
      }
      float* to = &weight[static_cast<size_t>(row * columns + first)];
      for (size_t i = 0; i < width; ++i) to[i] += scale * sum[i];
    }
  }
}

// Rows of `target` scaled to the given norms; `weight` moves towards them by `share`.
void set_magnitude(std::span<float> weight, std::span<const float> target,
                   const std::vector<float>& magnitude, double share) {
  const size_t columns = weight.size() / magnitude.size();
  const auto part = static_cast<float>(share);
  for (size_t row = 0; row < magnitude.size(); ++row) {
    const std::span<const float> to = target.subspan(row * columns, columns);
    double squares = 0;
    for (const double v : to) squares += v * v;
    const float factor =
        squares > 0 ? magnitude[row] / static_cast<float>(std::sqrt(squares)) : 0.0F;
    for (size_t i = 0; i < columns; ++i) {
      float& w = weight[row * columns + i];
      w += part * (factor * to[i] - w);
    }
  }
}

}  // namespace

LoraWeights::LoraWeights(std::shared_ptr<const Checkpoint> base, std::span<const LoraSpec> specs,
                         const HfCacheLocations& cache, const Logger& logger)
    : base_(std::move(base)) {
  for (const LoraSpec& spec : specs) {
    if (!std::isfinite(spec.weight) || std::abs(spec.weight) > kMaxWeight) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("lora: {}: weight is {}, wanted a number within {}",
                              printable(spec.path, 400), spec.weight, kMaxWeight));
    }
    entries_.push_back({open_lora(file_of(spec.path, cache), *base_, logger), spec.weight});
    const std::string& hash = entries_.back().lora->hash;
    const auto same = [&](const Entry& entry) { return entry.lora->hash == hash; };
    if (std::ranges::count_if(entries_, same) > 1) {
      log(logger, LogLevel::kWarning, "lora",
          fmt::format("{}: the same LoRA is given twice; it is added twice", spec.path));
    }
  }
  for (const Entry& entry : entries_) {
    for (const LoraModule& module : entry.lora->modules) {
      patches_[module.weight].push_back({&entry, &module});
    }
  }
}

bool LoraWeights::contains(const std::string& name) const { return base_->contains(name); }

TensorType LoraWeights::type(const std::string& name) const {
  TensorType type = base_->type(name);
  if (patches_.contains(name)) type.dtype = DType::kF32;
  return type;
}

void LoraWeights::read(const std::string& name, const TensorType& type, std::byte* dst) const {
  const auto found = patches_.find(name);
  if (found == patches_.end()) return base_->read(name, type, dst);
  Tensor weight({DType::kF32, type.shape});
  base_->read(name, weight.type(), weight.data());
  for (const Patch& patch : found->second) add(patch, weight);
  convert(weight.data(), DType::kF32, dst, type.dtype,
          static_cast<size_t>(type.shape.num_elements()));
}

void LoraWeights::add(const Patch& patch, Tensor& weight) {
  const LoraModule& module = *patch.module;
  const SafetensorsFile& file = patch.entry->lora->file;
  const std::vector<float> down = read_factor(file, *module.down);
  const std::vector<float> up = read_factor(file, *module.up);
  const bool dora = module.magnitude != nullptr;
  Tensor moved = dora ? weight.clone() : Tensor();
  const std::span<float> values = (dora ? moved : weight).values<float>();
  const auto scale = static_cast<float>(dora ? module.scale : module.scale * patch.entry->weight);
  const int64_t rows = module.shape[0];
  const int64_t columns = module.shape.num_elements() / rows;
  const auto part = [&](int64_t begin, int64_t end) {
    add_rows(up, down, module.rank, columns, scale, values, begin, end);
  };
  constexpr int64_t kQuick = 50'000'000;  // multiplications that one thread does in milliseconds
  const auto threads = std::min<int64_t>(std::max(1U, std::thread::hardware_concurrency()),
                                         1 + rows * columns * module.rank / kQuick);
  std::vector<std::jthread> helpers;
  for (int64_t i = 1; i < threads; ++i) {
    helpers.emplace_back(part, rows * i / threads, rows * (i + 1) / threads);
  }
  part(0, rows / threads);
  helpers.clear();
  if (dora) {
    set_magnitude(weight.values<float>(), values, read_factor(file, *module.magnitude),
                  patch.entry->weight);
  }
}

std::string LoraWeights::identity(const std::string& component) const {
  std::string text;
  for (const Entry& entry : entries_) {
    const bool changes = std::ranges::any_of(entry.lora->modules, [&](const LoraModule& module) {
      return module.weight.starts_with(component + "/");
    });
    if (!changes) continue;
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", entry.lora->hash, entry.weight);
  }
  return text;
}

void LoraWeights::check_unchanged() const {
  for (const Entry& entry : entries_) entry.lora->file.file().check_unchanged();
}

}  // namespace halftone::io
