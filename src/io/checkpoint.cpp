#include "io/checkpoint.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/text.h"
#include "io/content_hash.h"
#include "io/layouts.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

bool is_text_encoder(std::string_view component) { return component.starts_with("text_encoder"); }

// Names of VAE attention weights before diffusers 0.14.
std::string modern_vae_name(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kOld{
      {{".query.", ".to_q."},
       {".key.", ".to_k."},
       {".value.", ".to_v."},
       {".proj_attn.", ".to_out.0."}}};
  if (name.find("attentions.") == std::string::npos) return name;
  for (const auto& [old_part, new_part] : kOld) {
    if (const size_t at = name.find(old_part); at != std::string::npos) {
      return name.substr(0, at).append(new_part).append(name.substr(at + old_part.size()));
    }
  }
  return name;
}

// Our spelling of a tensor's name in its component; empty for buffers that hold no weights.
std::string canonical_name(const std::string& component, const std::string& name) {
  if (component == "vae") return modern_vae_name(name);
  const bool is_surplus = name.ends_with("position_ids") || name == "logit_scale";
  if (component == "clip") return is_surplus ? std::string() : name;
  if (!is_text_encoder(component)) return name;
  if (is_surplus) return {};
  for (const std::string_view part : {"embeddings.", "encoder.", "final_layer_norm."}) {
    if (name.starts_with(part)) return "text_model." + name;
  }
  return name;
}

// A 1x1 convolution's weight [n, c, 1, 1] as the matrix [n, c], for attention of the VAE.
Shape attention_matrix(const std::string& name, const Shape& shape) {
  const bool is_attention =
      name.find(".attentions.") != std::string::npos && name.ends_with(".weight");
  if (!is_attention || shape.rank() != 4 || shape[2] != 1 || shape[3] != 1) return shape;
  return Shape({shape[0], shape[1]});
}

fs::path snapshot_fence(const fs::path& folder) { return hf_snapshot_of(folder).cache_root; }

CheckpointParts open_parts(const std::string& model, const OpenOptions& options) {
  std::error_code error;
  const fs::path path(model);
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) {
    return open_diffusers_folder(path, snapshot_fence(path), options);
  }
  if (fs::exists(status)) return open_single_file(path, options);
  if (!is_model_id(model)) {
    throw Error(
        Errc::kNotFound,
        fmt::format("{}: no such file or folder; wanted a diffusers folder, a .safetensors file "
                    "or a Hugging Face id ORG/NAME",
                    printable(model, 400)));
  }
  const fs::path snapshot = find_in_hf_cache(model, options.hf_cache);
  return open_diffusers_folder(snapshot, snapshot_fence(snapshot), options);
}

void transpose(const std::byte* src, std::byte* dst, int64_t rows, int64_t columns, size_t size) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      std::copy_n(src + static_cast<size_t>(c * rows + r) * size, size,
                  dst + static_cast<size_t>(r * columns + c) * size);
    }
  }
}

}  // namespace

void warn(CheckpointParts& parts, const Logger& logger, std::string text) {
  log(logger, LogLevel::kWarning, "io", text);
  parts.warnings.push_back(std::move(text));
}

JsonView keep_document(CheckpointParts& parts, Json document, const std::string& where) {
  parts.documents.push_back(std::make_unique<Json>(std::move(document)));
  const JsonView view(*parts.documents.back(), where);
  if (!view.value().is_object()) {
    view.fail(fmt::format("got {}, wanted object", view.value().kind_name()));
  }
  return view;
}

JsonView read_document(CheckpointParts& parts, const fs::path& root, const std::string& relative,
                       const fs::path& fence) {
  const std::string where = (root / relative).string();
  const std::string text = read_text_file(resolve_inside(root, relative, fence));
  return keep_document(parts, parse_json(text, where, {.python_numbers = true}), where);
}

void read_config(CheckpointParts& parts, const std::string& key, const fs::path& root,
                 const std::string& relative, const fs::path& fence) {
  parts.configs.insert_or_assign(key, read_document(parts, root, relative, fence));
}

void add_config(CheckpointParts& parts, const std::string& key, Json document,
                const std::string& where) {
  parts.configs.insert_or_assign(key, keep_document(parts, std::move(document), where));
}

std::optional<TokenizerFiles> read_tokenizer(const fs::path& root, const std::string& name,
                                             const fs::path& fence) {
  std::error_code error;
  const auto read = [&](const char* file, bool required) -> std::string {
    const std::string relative = name + "/" + file;
    if (!required && !fs::exists(root / relative, error)) return {};
    return read_text_file(resolve_inside(root, relative, fence));
  };
  const bool has_vocab = fs::exists(root / name / "vocab.json", error);
  if (!has_vocab && !fs::exists(root / name / "tokenizer.json", error)) return std::nullopt;
  return TokenizerFiles{.where = (root / name).string(),
                        .vocab_json = has_vocab ? read("vocab.json", true) : "",
                        .merges_txt = has_vocab ? read("merges.txt", true) : "",
                        .tokenizer_json = has_vocab ? "" : read("tokenizer.json", true),
                        .special_tokens_map_json = read("special_tokens_map.json", false),
                        .tokenizer_config_json = read("tokenizer_config.json", false),
                        .added_tokens_json = read("added_tokens.json", false)};
}

void add_tensor(CheckpointParts& parts, const std::string& component, const std::string& name,
                TensorSource source) {
  const std::string ours = canonical_name(component, name);
  if (ours.empty()) return;
  if (component == "vae") source.shape = attention_matrix(ours, source.shape);
  const std::string where = parts.files[source.file]->file().path().string();
  const std::string stored = source.entry->name;
  const auto [it, is_new] = parts.tensors.emplace(component + "/" + ours, std::move(source));
  if (!is_new) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: tensors '{}' and '{}' are both {}", where,
                                                it->second.entry->name, stored, it->first));
  }
}

std::shared_ptr<const Checkpoint> Checkpoint::open(const std::string& model,
                                                   const OpenOptions& options) {
  try {
    return std::shared_ptr<const Checkpoint>(
        new Checkpoint(open_parts(model, options), options));  // the constructor is private
  } catch (const Error& e) {
    std::string id = is_model_id(model) ? model : hf_snapshot_of(model).id;
    std::error_code error;
    if (fs::exists(model, error) && is_model_id(model)) id = hf_snapshot_of(model).id;
    const bool has_remedy =
        std::string_view(e.what()).find("hf download") != std::string_view::npos;
    if (e.code() != Errc::kNotFound || id.empty() || has_remedy) throw;
    ErrorDetails details = e.details() != nullptr ? *e.details() : ErrorDetails();
    details.remedy = hf_download_command(id);
    throw Error(e.code(),
                fmt::format("{}; the download looks incomplete, run: {}", e.what(), details.remedy),
                details);
  }
}

std::shared_ptr<const Checkpoint> Checkpoint::open_clip(const fs::path& folder,
                                                        const OpenOptions& options) {
  return std::shared_ptr<const Checkpoint>(
      new Checkpoint(open_clip_folder(folder, snapshot_fence(folder), options), options));
}

Checkpoint::Checkpoint(CheckpointParts parts, OpenOptions options)
    : parts_(std::move(parts)), options_(std::move(options)) {}

const TensorSource& Checkpoint::source(const std::string& name) const {
  const auto it = parts_.tensors.find(name);
  if (it == parts_.tensors.end()) {
    throw Error(Errc::kNotFound,
                fmt::format("{}: tensor '{}' is missing", parts_.root.string(), printable(name)),
                ErrorDetails{.file = parts_.root.string(), .key = printable(name)});
  }
  return it->second;
}

bool Checkpoint::contains(const std::string& name) const { return parts_.tensors.contains(name); }

TensorType Checkpoint::type(const std::string& name) const {
  const TensorSource& from = source(name);
  return {from.entry->type(parts_.files[from.file]->file().path().string()).dtype, from.shape};
}

void Checkpoint::read(const std::string& name, const TensorType& type, std::byte* dst) const {
  const TensorSource& from = source(name);
  const SafetensorsFile& file = *parts_.files[from.file];
  if (type.shape != from.shape) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: tensor '{}': got shape {}, wanted {} (from the config)",
                            file.file().path().string(), from.entry->name, to_string(from.shape),
                            to_string(type.shape)),
                ErrorDetails{.file = file.file().path().string(),
                             .key = from.entry->name,
                             .got = to_string(from.shape),
                             .wanted = to_string(type.shape)});
  }
  const auto count = static_cast<uint64_t>(type.shape.num_elements());
  if (!from.transposed) {
    num_non_finite_ += file.read(*from.entry, from.first, count, type.dtype, dst);
    return;
  }
  Tensor stored(type);
  num_non_finite_ += file.read(*from.entry, from.first, count, type.dtype, stored.data());
  transpose(stored.data(), dst, type.shape[0], type.shape[1], size_of(type.dtype));
}

std::vector<std::string> Checkpoint::tensor_names(std::string_view component) const {
  const std::string prefix = std::string(component) + "/";
  std::vector<std::string> names;
  for (auto it = parts_.tensors.lower_bound(prefix);
       it != parts_.tensors.end() && it->first.starts_with(prefix); ++it) {
    names.push_back(it->first.substr(prefix.size()));
  }
  return names;
}

bool Checkpoint::has_component(const std::string& name) const {
  const auto it = parts_.tensors.lower_bound(name + "/");
  return it != parts_.tensors.end() && it->first.starts_with(name + "/");
}

std::optional<JsonView> Checkpoint::find_config(const std::string& component) const {
  const auto it = parts_.configs.find(component);
  return it == parts_.configs.end() ? std::nullopt : std::optional(it->second);
}

JsonView Checkpoint::config(const std::string& component) const {
  if (const std::optional<JsonView> found = find_config(component)) return *found;
  throw Error(Errc::kNotFound, fmt::format("{}: the model has no component '{}'",
                                           parts_.root.string(), printable(component)));
}

JsonView Checkpoint::scheduler_config() const { return config("scheduler"); }
JsonView Checkpoint::model_index() const { return config(""); }

const TokenizerFiles& Checkpoint::tokenizer(const std::string& name) const {
  const auto it = parts_.tokenizers.find(name);
  if (it == parts_.tokenizers.end()) {
    throw Error(Errc::kNotFound,
                fmt::format("{}: no {}/vocab.json and merges.txt, nor tokenizer.json; {}",
                            parts_.root.string(), name,
                            parts_.layout == "single-file"
                                ? "a single file holds no tokenizer: give a folder with CLIP's "
                                  "vocab.json and merges.txt"
                                : "wanted CLIP's tokenizer files"));
  }
  return it->second;
}

std::vector<ComponentInfo> Checkpoint::components() const {
  std::map<std::string, ComponentInfo> infos;
  for (const auto& [name, from] : parts_.tensors) {
    const std::string component = name.substr(0, name.find('/'));
    ComponentInfo& info = infos[component];
    info.name = component;
    const auto count = static_cast<uint64_t>(from.shape.num_elements());
    const auto stored = static_cast<uint64_t>(from.entry->shape.num_elements());
    const uint64_t bytes = stored == 0 ? 0 : (from.entry->end - from.entry->begin) / stored * count;
    ++info.num_tensors;
    info.num_parameters += count;
    info.bytes += bytes;
    info.bytes_by_dtype[from.entry->dtype_name] += bytes;
    const fs::path& path = parts_.files[from.file]->file().path();
    const std::string file =
        path.lexically_proximate(fs::is_directory(parts_.root) ? parts_.root
                                                               : parts_.root.parent_path())
            .string();
    if (std::ranges::find(info.files, file) == info.files.end()) info.files.push_back(file);
  }
  std::vector<ComponentInfo> out;
  for (auto& [name, info] : infos) out.push_back(std::move(info));
  return out;
}

std::string Checkpoint::structure_hash() const { return hash_structure(parts_); }

std::string Checkpoint::content_hash() const {
  const std::lock_guard lock(hash_mutex_);
  if (content_hash_.empty()) {
    content_hash_ = hash_contents(parts_, options_.hash_cache, options_.logger);
  }
  return content_hash_;
}

void Checkpoint::check_unchanged() const {
  for (const auto& file : parts_.files) file->file().check_unchanged();
}

}  // namespace halftone::io
