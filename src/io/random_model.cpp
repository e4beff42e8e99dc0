#include "io/random_model.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "io/convert.h"
#include "io/diffusers_tensors.h"
#include "io/released_configs.h"
#include "io/safetensors.h"
#include "io/two_byte_vocabulary.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kBlock = uint64_t{1} << 20;  // elements generated and written at a time
constexpr uint64_t kTableSize = 4096;

// Standard normal quantiles at (i + 0.5) / kTableSize: drawing an index uniformly draws a normal
// value (of 4096 different ones, the largest 3.7).
std::array<float, kTableSize> make_normal_table() {
  std::array<float, kTableSize> table{};
  for (uint64_t i = 0; i < kTableSize / 2; ++i) {
    const double p = (static_cast<double>(i) + 0.5) / static_cast<double>(kTableSize);
    double low = -10;
    double high = 0;
    for (int step = 0; step < 60; ++step) {
      const double x = (low + high) / 2;
      (std::erfc(-x / std::sqrt(2.0)) / 2 < p ? low : high) = x;
    }
    table[i] = static_cast<float>(low);
    table[kTableSize - 1 - i] = static_cast<float>(-low);
  }
  return table;
}

// Word `counter` of the stream `key` (splitmix64): any block can be made alone.
uint64_t random_word(uint64_t key, uint64_t counter) {
  uint64_t z = key + (counter + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

// Elements [first, first + n) of a stream, four of a word; `first` is a multiple of 4.
template <class T>
void draw(const T* table, uint64_t key, uint64_t first, uint64_t n, std::byte* dst) {
  T* out = reinterpret_cast<T*>(dst);
  uint64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const uint64_t word = random_word(key, (first + i) / 4);
    out[i] = table[word & 0xfffU];
    out[i + 1] = table[(word >> 16) & 0xfffU];
    out[i + 2] = table[(word >> 32) & 0xfffU];
    out[i + 3] = table[(word >> 48) & 0xfffU];
  }
  for (uint64_t word = random_word(key, (first + i) / 4); i < n; ++i, word >>= 16) {
    out[i] = table[word & 0xfffU];
  }
}

float standard_deviation(const WeightSpec& spec) {
  if (spec.name.find("_embedding.weight") != std::string::npos) return 0.02F;
  const int64_t fan_in = spec.shape.num_elements() / spec.shape[0];
  return 1.0F / std::sqrt(static_cast<float>(fan_in));
}

// Fills blocks of a tensor with its random values.
class Filler {
 public:
  Filler(DType dtype, uint64_t seed) : dtype_(dtype), seed_(seed), normal_(make_normal_table()) {}

  void fill(const WeightSpec& spec, const std::string& component, uint64_t first, uint64_t n,
            std::byte* dst) const {
    std::array<float, kTableSize> values;
    const float deviation = standard_deviation(spec);
    for (uint64_t i = 0; i < kTableSize; ++i) {
      values[i] = spec.init == Init::kOne    ? 1.0F
                  : spec.init == Init::kZero ? 0.0F
                                             : normal_[i] * deviation;
    }
    std::array<std::byte, kTableSize * 4> table;
    convert_elements(values.data(), DType::kF32, table.data(), dtype_, kTableSize);
    const uint64_t key = stream_key(component, spec.name);
    if (size_of(dtype_) == 2) {
      draw(reinterpret_cast<const uint16_t*>(table.data()), key, first, n, dst);
    } else {
      draw(reinterpret_cast<const uint32_t*>(table.data()), key, first, n, dst);
    }
  }

 private:
  [[nodiscard]] uint64_t stream_key(const std::string& component, const std::string& name) const {
    Sha256 hash;
    hash.update(&seed_, sizeof seed_);
    hash.update_field(component);
    hash.update_field(name);
    const Sha256Digest digest = hash.finish();
    uint64_t key = 0;
    std::memcpy(&key, digest.data(), sizeof key);
    return key;
  }

  DType dtype_;
  uint64_t seed_;
  std::array<float, kTableSize> normal_;
};

// Progress over all components, called from the main thread only.
class Meter {
 public:
  Meter(const ProgressCallback& progress, uint64_t total_bytes)
      : progress_(progress), total_bytes_(total_bytes) {}
  void add(uint64_t bytes) { done_bytes_ += bytes; }
  // Throws kCancelled when the caller wants to stop.
  void report() const {
    if (!progress_) return;
    const Progress now{.stage = "write",
                       .done = static_cast<int>(done_bytes_ >> 20),
                       .total = static_cast<int>(total_bytes_ >> 20)};
    if (!progress_(now)) throw Error(Errc::kCancelled, "writing a random model was cancelled");
  }

 private:
  const ProgressCallback& progress_;
  uint64_t total_bytes_;
  std::atomic<uint64_t> done_bytes_ = 0;
};

struct Block {
  size_t tensor;
  uint64_t first, count;
};

void write_weights(const fs::path& path, const std::string& component,
                   const std::vector<WeightSpec>& specs, const RandomModelOptions& options,
                   const Filler& filler, Meter& meter) {
  std::vector<NamedType> types;
  std::vector<Block> blocks;
  for (size_t i = 0; i < specs.size(); ++i) {
    types.push_back({specs[i].name, {options.dtype, specs[i].shape}});
    const auto n = static_cast<uint64_t>(specs[i].shape.num_elements());
    for (uint64_t first = 0; first < n; first += kBlock) {
      blocks.push_back({i, first, std::min(kBlock, n - first)});
    }
  }
  SafetensorsWriter writer(path, types, {{"format", "pt"}});
  const uint64_t size = size_of(options.dtype);
  std::atomic<size_t> next = 0;
  std::atomic<bool> stop = false;
  const unsigned num_threads = std::clamp(
      options.num_threads == 0 ? std::thread::hardware_concurrency() : options.num_threads, 1U,
      64U);
  std::vector<std::exception_ptr> errors(num_threads);
  const auto work = [&](size_t thread) noexcept {
    try {
      std::vector<std::byte> buffer(kBlock * size);
      for (size_t i = next++; i < blocks.size() && !stop; i = next++) {
        const Block& block = blocks[i];
        filler.fill(specs[block.tensor], component, block.first, block.count, buffer.data());
        writer.write(block.tensor, block.first * size, {buffer.data(), block.count * size});
        meter.add(block.count * size);
        if (thread == 0) meter.report();
      }
    } catch (...) {
      errors[thread] = std::current_exception();
      stop = true;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(work, i);
    work(0);
  }
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  writer.commit();
}

// Narrows a released config to a few megabytes of weights, keeping every kind of layer.
void make_tiny(std::string_view document, std::string_view family, Json& config) {
  const bool xl = family != "sd15";
  const auto set = [&](const char* key, Json value) { config.set(key, std::move(value)); };
  if (document == "unet") {
    set("block_out_channels", xl ? Json::array({32, 64, 64}) : Json::array({32, 32, 64, 64}));
    set("cross_attention_dim", xl ? 96 : 32);
    set("sample_size", 16);
    if (!xl) return;
    set("attention_head_dim", Json::array({2, 4, 4}));
    set("transformer_layers_per_block", Json::array({1, 1, 2}));
    set("addition_time_embed_dim", 32);
    set("projection_class_embeddings_input_dim", 64 + 6 * 32);
  } else if (document == "vae") {
    set("block_out_channels", Json::array({32, 32, 64, 64}));
    set("sample_size", 128);
  } else if (document.starts_with("text_encoder")) {
    const int width = document == "text_encoder_2" ? 64 : 32;
    set("hidden_size", width);
    set("intermediate_size", 4 * width);
    set("projection_dim", width);
    set("num_attention_heads", width / 16);
    set("num_hidden_layers", 3);
  }
}

void write_tokenizer(const fs::path& folder, const RandomModelOptions& options,
                     bool pads_with_bang) {
  std::error_code error;
  fs::create_directories(folder, error);
  std::string vocab;
  std::string merges;
  if (options.clip_vocab.empty()) {
    const TwoByteVocabulary made_up = two_byte_vocabulary();
    vocab = made_up.vocab_json;
    merges = made_up.merges_txt;
  } else {
    vocab = read_text_file(options.clip_vocab / "vocab.json");
    merges = read_text_file(options.clip_vocab / "merges.txt");
  }
  write_file_atomically(folder / "vocab.json", vocab);
  write_file_atomically(folder / "merges.txt", merges);
  const Json pad(pads_with_bang ? "!" : "<|endoftext|>");
  const Json special = Json::object({{"bos_token", "<|startoftext|>"},
                                     {"eos_token", "<|endoftext|>"},
                                     {"pad_token", pad},
                                     {"unk_token", "<|endoftext|>"}});
  Json config = Json::object({{"add_prefix_space", false},
                              {"do_lower_case", true},
                              {"errors", "replace"},
                              {"model_max_length", 77},
                              {"tokenizer_class", "CLIPTokenizer"}});
  for (const auto& [key, value] : *special.if_object()) config.set(key, value);
  write_file_atomically(folder / "special_tokens_map.json", to_text(special, 2) + "\n");
  write_file_atomically(folder / "tokenizer_config.json", to_text(config, 2) + "\n");
}

// A folder that is renamed to its place when complete, and removed when not.
class StagedFolder {
 public:
  explicit StagedFolder(const fs::path& target)
      : target_(target),
        temp_(target.parent_path() /
              fmt::format(".{}.tmp-{}", target.filename().string(), ::getpid())) {
    std::error_code error;
    if (fs::exists(target, error) && !(fs::is_directory(target) && fs::is_empty(target))) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("{}: exists and is not empty; remove it or choose another folder",
                              target.string()));
    }
    if (!target.parent_path().empty()) fs::create_directories(target.parent_path(), error);
    if (!error) fs::create_directory(temp_, error);
    if (error) fail(temp_, error);
  }
  ~StagedFolder() {
    std::error_code error;
    if (!temp_.empty()) fs::remove_all(temp_, error);
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return temp_; }
  void commit() {
    std::error_code error;
    fs::rename(temp_, target_, error);
    if (error) fail(target_, error);
    temp_.clear();
  }

 private:
  [[noreturn]] static void fail(const fs::path& path, const std::error_code& error) {
    throw Error(Errc::kIo, fmt::format("{}: cannot create: {}", path.string(), error.message()));
  }
  fs::path target_;
  fs::path temp_;
};

struct PlannedComponent {
  std::string name;
  Json config;
  std::vector<WeightSpec> weights;
};

std::vector<PlannedComponent> plan_components(const RandomModelOptions& options) {
  std::vector<PlannedComponent> components;
  for (const char* name : {"text_encoder", "text_encoder_2", "unet", "vae"}) {
    auto config = released_config(options.family, name);
    if (!config) continue;
    if (options.tiny) make_tiny(name, options.family, *config);
    PlannedComponent component{name, std::move(*config), {}};
    component.weights = diffusers_tensors(name, JsonView(component.config, name));
    components.push_back(std::move(component));
  }
  return components;
}

void write_json(const fs::path& path, const Json& json) {
  write_file_atomically(path, to_text(json, 2) + "\n");
}

}  // namespace

void write_random_model(const RandomModelOptions& options, const fs::path& folder,
                        const ProgressCallback& progress) {
  const auto index = released_config(options.family, "model_index");
  if (!index) {
    throw Error(
        Errc::kInvalidArgument,
        fmt::format("family '{}' is unknown, wanted sdxl, sdxl-turbo or sd15", options.family));
  }
  if (options.dtype != DType::kF16 && options.dtype != DType::kBF16 &&
      options.dtype != DType::kF32) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("random weights of type {}, wanted f16, bf16 or f32",
                            to_string(options.dtype)));
  }
  const std::vector<PlannedComponent> components = plan_components(options);
  uint64_t total_bytes = 0;
  for (const PlannedComponent& component : components) {
    for (const WeightSpec& spec : component.weights) {
      total_bytes += static_cast<uint64_t>(spec.shape.num_elements()) * size_of(options.dtype);
    }
  }
  StagedFolder staged(folder.filename().empty() ? folder.parent_path() : folder);
  const Filler filler(options.dtype, options.seed);
  Meter meter(progress, total_bytes);
  for (const auto& [name, config, weights] : components) {
    const fs::path path = staged.path() / name;
    fs::create_directory(path);
    write_json(path / "config.json", config);
    const char* file = name.starts_with("text") ? "model" : "diffusion_pytorch_model";
    write_weights(path / fmt::format("{}.safetensors", file), name, weights, options, filler,
                  meter);
  }
  fs::create_directory(staged.path() / "scheduler");
  write_json(staged.path() / "scheduler" / "scheduler_config.json",
             *released_config(options.family, "scheduler"));
  write_tokenizer(staged.path() / "tokenizer", options, false);
  if (index->find("tokenizer_2") != nullptr) {
    write_tokenizer(staged.path() / "tokenizer_2", options, true);
  }
  write_json(staged.path() / "model_index.json", *index);
  staged.commit();
  meter.report();
}

}  // namespace halftone::io
