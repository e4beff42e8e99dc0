#include "io/lora_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/text.h"
#include "io/content_hash.h"
#include "io/name_maps/name_maps.h"

namespace halftone::io {
namespace {

constexpr size_t kMaxListed = 20;
constexpr double kMaxAlpha = 1e6;
constexpr std::array<std::string_view, 3> kComponents = {"unet", "text_encoder", "text_encoder_2"};

enum class Part : uint8_t { kDown, kUp, kAlpha, kMagnitude };

struct Ending {
  std::string_view text;
  Part part;
};
constexpr std::array kEndings = {
    Ending{".lora_down.weight", Part::kDown},
    Ending{".lora_up.weight", Part::kUp},
    Ending{".lora_A.weight", Part::kDown},
    Ending{".lora_B.weight", Part::kUp},
    Ending{".lora.down.weight", Part::kDown},
    Ending{".lora.up.weight", Part::kUp},
    Ending{".lora_linear_layer.down.weight", Part::kDown},
    Ending{".lora_linear_layer.up.weight", Part::kUp},
    Ending{"_lora.down.weight", Part::kDown},
    Ending{"_lora.up.weight", Part::kUp},
    Ending{".alpha", Part::kAlpha},
    Ending{".dora_scale", Part::kMagnitude},
    Ending{".lora_magnitude_vector", Part::kMagnitude},
    Ending{".lora_magnitude_vector.weight", Part::kMagnitude},
};

struct Refused {
  std::string_view mark, what;
  bool at_end = false;
};
constexpr std::array kRefused = {
    Refused{".hada_w", "a LoHa (products of two factors, elementwise)"},
    Refused{".hada_t", "a LoHa with cores"},
    Refused{".lokr_w", "a LoKr (Kronecker products)"},
    Refused{".lokr_t", "a LoKr with cores"},
    Refused{".lora_mid.", "a LoCon with Tucker cores"},
    Refused{".oft_", "an OFT (rotations)"},
    Refused{".diff", "a whole weight difference", true},
    Refused{".diff_b", "a whole bias difference", true},
    Refused{".set_weight", "a whole replaced weight", true},
};

std::string flattened(std::string name) {
  std::ranges::replace(name, '.', '_');
  return name;
}

// Where a module's key may lead. `ldm` is the kohya spelling with LDM's block names.
struct Target {
  std::string weight;
  bool kohya = false, ldm = false, ambiguous = false;
};

// Every spelling of every layer that a LoRA can change.
class Targets {
 public:
  explicit Targets(const Checkpoint& base) {
    const auto layers =
        static_cast<uint64_t>(base.config("unet").integer_or("layers_per_block", 2, 1, 100));
    for (const std::string_view component : kComponents) {
      for (const std::string& tensor : base.tensor_names(component)) {
        const std::string weight = fmt::format("{}/{}", component, tensor);
        const size_t rank = base.type(weight).shape.rank();
        if (!tensor.ends_with(".weight") || (rank != 2 && rank != 4)) continue;
        add_layer(component, tensor.substr(0, tensor.size() - 7), weight, layers);
      }
    }
  }

  [[nodiscard]] const Target* find(const std::string& module) const {
    const auto it = targets_.find(module);
    return it == targets_.end() ? nullptr : &it->second;
  }

 private:
  void add_layer(std::string_view component, const std::string& module, const std::string& weight,
                 uint64_t layers) {
    constexpr std::string_view kTextModel = "text_model.";
    add(fmt::format("{}.{}", component, module), {.weight = weight});
    if (component == "unet") {
      add("lora_unet_" + flattened(module), {.weight = weight, .kohya = true});
      for (const std::string& name : ldm_names(module, layers)) {
        add("lora_unet_" + flattened(name), {.weight = weight, .kohya = true, .ldm = true});
      }
      return;
    }
    if (module.starts_with(kTextModel)) {
      add(fmt::format("{}.{}", component, module.substr(kTextModel.size())), {.weight = weight});
    }
    const std::string flat = flattened(module);
    const bool second = component == "text_encoder_2";
    add((second ? "lora_te2_" : "lora_te1_") + flat, {.weight = weight, .kohya = true});
    if (!second) add("lora_te_" + flat, {.weight = weight, .kohya = true});
  }

  void add(const std::string& key, const Target& target) {
    // try_emplace leaves its argument alone when the key is there already.
    const auto [it, is_new] = targets_.try_emplace(key, target);
    if (!is_new && it->second.weight != target.weight) it->second.ambiguous = true;
  }

  std::map<std::string, Target> targets_;
};

// A key taken apart: the module as Targets spells it, and what the tensor is of it.
struct Key {
  std::string module;
  Part part;
};

std::optional<Key> take_apart(const std::string& key) {
  for (const Ending& ending : kEndings) {
    if (!key.ends_with(ending.text)) continue;
    std::string module = key.substr(0, key.size() - ending.text.size());
    if (ending.text.starts_with('_')) {
      // diffusers' attention processors: "attn1.processor.to_out_lora" is layer "attn1.to_out.0".
      if (const size_t at = module.rfind(".processor."); at != std::string::npos) {
        module.erase(at, std::string_view(".processor").size());
      }
      if (module.ends_with(".to_out")) module += ".0";
    }
    return Key{std::move(module), ending.part};
  }
  return std::nullopt;
}

// Scales of PEFT's `lora_adapter_metadata`.
class AdapterMetadata {
 public:
  AdapterMetadata(const SafetensorsFile& file, const std::string& where) {
    for (const auto& [key, text] : file.header().metadata) {
      if (key != "lora_adapter_metadata") continue;
      json_ = parse_json(text, where + ": lora_adapter_metadata", {.python_numbers = true});
      where_ = where + ": lora_adapter_metadata";
    }
  }

  // What multiplies up * down of "component/layer.weight"; 1 when the file does not say.
  [[nodiscard]] double scale(const std::string& weight, int64_t rank) const {
    const size_t slash = weight.find('/');
    const std::string component = weight.substr(0, slash);
    const std::string layer = weight.substr(slash + 1, weight.size() - slash - 8);
    if (!json_) return 1;
    const JsonView view(*json_, where_);
    double alpha = view.number_or(component + ".lora_alpha", static_cast<double>(rank));
    if (const auto pattern = view.find(component + ".alpha_pattern")) {
      for (const auto& [name, value] : pattern->members()) {
        if (layer == name || layer.ends_with("." + name)) alpha = value.number();
      }
    }
    const bool root = view.boolean_or(component + ".use_rslora", false);
    const auto r = static_cast<double>(rank);
    return alpha / (root ? std::sqrt(r) : r);
  }

 private:
  std::optional<Json> json_;
  std::string where_;
};

class Reader {
 public:
  Reader(LoraFile& lora, const Checkpoint& base, const Logger& logger)
      : lora_(lora),
        base_(base),
        logger_(logger),
        where_(printable(lora.file.file().path().string(), 400)),
        targets_(base),
        metadata_(lora.file, where_) {}

  void run() {
    sort_keys();
    drop_ldm_doubles();
    report_unmatched();
    for (const auto& [weight, parts] : found_) add_module(weight, parts);
  }

 private:
  struct Parts {
    std::string module;  // as the file spells it
    bool ldm = false;
    std::array<const SafetensorsEntry*, 4> entries{};
    [[nodiscard]] const SafetensorsEntry* operator[](Part part) const {
      return entries[static_cast<size_t>(part)];
    }
  };

  [[noreturn]] void fail(Errc code, const std::string& key, const std::string& text,
                         std::string got = {}, std::string wanted = {}) const {
    throw Error(code, fmt::format("{}: '{}': {}", where_, printable(key, 200), text),
                ErrorDetails{.file = where_,
                             .key = printable(key, 200),
                             .got = std::move(got),
                             .wanted = std::move(wanted)});
  }

  void warn(const std::string& text) const {
    log(logger_, LogLevel::kWarning, "lora", fmt::format("{}: {}", where_, text));
  }

  void sort_keys() {
    const auto& tensors = lora_.file.header().tensors;
    size_t kohya = 0, dotted = 0, known = 0;
    for (const SafetensorsEntry& entry : tensors) {
      refuse_other_kinds(entry.name);
      const std::optional<Key> key = take_apart(entry.name);
      if (!key) {
        unmatched_.push_back(entry.name);
        continue;
      }
      ++known;
      (key->module.starts_with("lora_") ? kohya : dotted) += 1;
      if (kohya > 0 && dotted > 0) {
        fail(Errc::kCorruptFile, entry.name,
             "kohya keys (lora_unet_...) and dotted keys (unet....) in one file");
      }
      const Target* target = targets_.find(key->module);
      if (target == nullptr) {
        unmatched_.push_back(entry.name);
        continue;
      }
      if (target->ambiguous) fail(Errc::kUnsupported, entry.name, "fits several layers");
      place(*target, *key, entry);
    }
    if (known > 0) return;
    const bool whole = std::ranges::any_of(tensors, [](const SafetensorsEntry& entry) {
      return entry.name.starts_with("model.diffusion_model.") || entry.name.ends_with(".weight");
    });
    throw Error(Errc::kUnsupported,
                fmt::format("{}: {}; wanted a LoRA (lora_unet_....lora_down.weight or "
                            "unet....lora_A.weight)",
                            where_,
                            tensors.empty() ? "holds no tensors"
                            : whole         ? "is a checkpoint, not a LoRA: give it with --model"
                                    : fmt::format("no LoRA key among its {} tensors (the first is "
                                                  "'{}')",
                                                  tensors.size(), printable(tensors[0].name))));
  }

  void refuse_other_kinds(const std::string& name) const {
    for (const Refused& refused : kRefused) {
      if (refused.at_end ? name.ends_with(refused.mark)
                         : name.find(refused.mark) != std::string::npos) {
        fail(Errc::kUnsupported, name, fmt::format("is {}, which is not supported", refused.what));
      }
    }
  }

  // LDM and diffusers names of one weight are kept apart until it is known which of them count.
  void place(const Target& target, const Key& key, const SafetensorsEntry& entry) {
    auto& side = target.ldm ? ldm_ : found_;
    Parts& parts = side[target.weight];
    if (parts.module.empty()) parts = {.module = key.module, .ldm = target.ldm};
    const SafetensorsEntry*& slot = parts.entries[static_cast<size_t>(key.part)];
    if (slot != nullptr) {
      fail(Errc::kCorruptFile, entry.name,
           fmt::format("is the same as '{}' for {}", printable(slot->name, 200), target.weight));
    }
    slot = &entry;
  }

  void drop_ldm_doubles() {
    const bool has_ours = std::ranges::any_of(
        found_, [](const auto& item) { return item.first.starts_with("unet/"); });
    if (!ldm_.empty() && has_ours) {
      warn(fmt::format("has layers in diffusers' and in LDM's names; the {} LDM ones are left out",
                       ldm_.size()));
      return;
    }
    found_.merge(ldm_);
  }

  void report_unmatched() const {
    if (unmatched_.empty()) return;
    const auto end =
        unmatched_.begin() + static_cast<std::ptrdiff_t>(std::min(unmatched_.size(), kMaxListed));
    std::vector<std::string> shown;
    for (auto it = unmatched_.begin(); it != end; ++it) shown.push_back(printable(*it, 100));
    const std::string list =
        fmt::format("{}{}", fmt::join(shown, ", "), unmatched_.size() > kMaxListed ? ", ..." : "");
    if (found_.empty()) {
      throw Error(Errc::kUnsupported,
                  fmt::format("{}: none of its {} tensors belongs to this {} model; it was made "
                              "for another one: {}",
                              where_, unmatched_.size(), base_.family(), list));
    }
    warn(fmt::format("{} tensors belong to no layer of this model and are left out: {}",
                     unmatched_.size(), list));
  }

  // Why a LoRA's shapes may not fit: cross-attention tells the base model by its text width.
  [[nodiscard]] std::string base_hint() const {
    for (const SafetensorsEntry& entry : lora_.file.header().tensors) {
      const bool reads_text = entry.name.find("attn2_to_k.") != std::string::npos ||
                              entry.name.find("attn2.to_k.") != std::string::npos;
      const std::optional<Key> key = take_apart(entry.name);
      if (!reads_text || !key || key->part != Part::kDown || entry.shape.rank() < 2) continue;
      const int64_t width = entry.shape[1];
      return fmt::format("; its text width is {}{}, so it was made for another base model", width,
                         width == 768    ? " (SD 1.x)"
                         : width == 1024 ? " (SD 2.x)"
                         : width == 2048 ? " (SDXL)"
                                         : "");
    }
    return {};
  }

  const SafetensorsEntry* floating(const SafetensorsEntry* entry) const {
    const DType dtype = entry->type(where_).dtype;
    if (!is_floating(dtype)) {
      fail(Errc::kCorruptFile, entry->name, "wanted floating point", std::string(to_string(dtype)));
    }
    if (size_of(dtype) < 2) {
      fail(Errc::kUnsupported, entry->name, "is 8-bit, and no scale says what it stands for");
    }
    return entry;
  }

  [[nodiscard]] float scalar(const SafetensorsEntry& entry) const {
    if (floating(&entry)->shape.num_elements() != 1) {
      fail(Errc::kCorruptFile, entry.name,
           fmt::format("got {}, wanted one number", to_string(entry.shape)));
    }
    float value = 0;
    lora_.file.read(entry, 0, 1, DType::kF32, reinterpret_cast<std::byte*>(&value));
    return value;
  }

  void add_module(const std::string& weight, const Parts& parts) {
    const SafetensorsEntry* down = parts[Part::kDown];
    const SafetensorsEntry* up = parts[Part::kUp];
    if (down == nullptr) fail(Errc::kCorruptFile, parts.module, "has no down (A) matrix");
    if (up == nullptr) fail(Errc::kCorruptFile, parts.module, "has no up (B) matrix");
    LoraModule module{.weight = weight,
                      .shape = base_.type(weight).shape,
                      .down = floating(down),
                      .up = floating(up),
                      .magnitude = parts[Part::kMagnitude]};
    check_shapes(parts.module, module);
    module.scale = scale_of(parts, module);
    if (module.magnitude != nullptr &&
        (floating(module.magnitude)->shape.num_elements() != module.shape[0] ||
         (module.magnitude->shape.rank() > 1 && module.magnitude->shape[0] != module.shape[0]))) {
      fail(Errc::kUnsupported, module.magnitude->name,
           fmt::format("DoRA magnitude is {}, supported is one number for each of {} outputs",
                       to_string(module.magnitude->shape), module.shape[0]));
    }
    lora_.modules.push_back(std::move(module));
  }

  // Convolutions: down is [rank, in, kh, kw], up [out, rank, 1, 1]; trailing ones may be missing.
  void check_shapes(const std::string& name, LoraModule& module) const {
    const Shape& down = module.down->shape;
    const Shape& up = module.up->shape;
    if (down.rank() < 2 || up.rank() < 2) {
      fail(Errc::kCorruptFile, name,
           fmt::format("down is {} and up {}, wanted matrices", to_string(down), to_string(up)));
    }
    module.rank = down[0];
    if (module.rank == 0) fail(Errc::kCorruptFile, name, "has rank 0");
    if (up[1] != module.rank) {
      fail(Errc::kCorruptFile, name,
           fmt::format("ranks differ: down is {}, up {}", to_string(down), to_string(up)));
    }
    const auto same = [](const Shape& got, std::vector<int64_t> wanted) {
      std::vector<int64_t> dims = got.dims();
      const size_t rank = std::max(dims.size(), wanted.size());
      dims.resize(rank, 1);
      wanted.resize(rank, 1);
      return dims == wanted;
    };
    std::vector<int64_t> wanted_down = module.shape.dims();
    wanted_down[0] = module.rank;
    if (!same(down, wanted_down) || !same(up, {module.shape[0], module.rank})) {
      fail(Errc::kUnsupported, name,
           fmt::format("down is {} and up {}, the layer's weight is {}{}", to_string(down),
                       to_string(up), to_string(module.shape), base_hint()),
           to_string(down), to_string(Shape(wanted_down)));
    }
    const int64_t fan_in = module.shape.num_elements() / module.shape[0];
    if (module.rank > std::min(module.shape[0], fan_in)) {
      warn(fmt::format("'{}' has rank {}, more than its layer {}", printable(name, 200),
                       module.rank, to_string(module.shape)));
    }
  }

  [[nodiscard]] double scale_of(const Parts& parts, const LoraModule& module) const {
    const SafetensorsEntry* entry = parts[Part::kAlpha];
    if (entry == nullptr) return metadata_.scale(module.weight, module.rank);
    const double alpha = scalar(*entry);
    if (!std::isfinite(alpha) || std::abs(alpha) > kMaxAlpha) {
      fail(Errc::kCorruptFile, entry->name,
           fmt::format("alpha is {}, wanted a number within {}", alpha, kMaxAlpha));
    }
    if (alpha == 0) {
      warn(fmt::format("'{}' is 0: the layer adds nothing", printable(entry->name, 200)));
    }
    return alpha / static_cast<double>(module.rank);
  }

  LoraFile& lora_;
  const Checkpoint& base_;
  const Logger& logger_;
  std::string where_;
  Targets targets_;
  AdapterMetadata metadata_;
  std::map<std::string, Parts> found_, ldm_;  // by weight
  std::vector<std::string> unmatched_;
};

}  // namespace

std::unique_ptr<LoraFile> open_lora(const std::filesystem::path& path, const Checkpoint& base,
                                    const Logger& logger) {
  auto lora = std::make_unique<LoraFile>(path);
  lora->hash = hash_file(lora->file.file());
  Reader(*lora, base, logger).run();
  return lora;
}

}  // namespace halftone::io
