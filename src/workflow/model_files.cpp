// Verifying and removing models on this machine.
#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "halftone/error.h"
#include "halftone/models.h"

#include "base/file.h"
#include "base/hash.h"
#include "io/hf_cache.h"
#include "workflow/model.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = size_t{8} << 20;

void report(const ProgressCallback& progress, int done, int total) {
  if (!progress || progress({.stage = "verify", .done = done, .total = total})) return;
  throw Error(Errc::kCancelled, "cancelled (verify)");
}

std::string sha256_of(const File& file, const ProgressCallback& progress) {
  Sha256 hash;
  std::vector<std::byte> piece(kPieceBytes);
  const auto pieces = static_cast<int>((file.size() + kPieceBytes - 1) / kPieceBytes);
  for (uint64_t offset = 0; offset < file.size(); offset += kPieceBytes) {
    const auto size = static_cast<size_t>(std::min<uint64_t>(kPieceBytes, file.size() - offset));
    file.read(offset, std::span(piece).first(size));
    hash.update(piece.data(), size);
    report(progress, static_cast<int>(offset / kPieceBytes) + 1, pieces);
  }
  file.check_unchanged();
  return to_hex(hash.finish());
}

// What a link into the cache's blobs says that its content's hash is; empty when it says nothing.
std::string promised_hash(const fs::path& path) {
  std::error_code failed;
  const fs::path target = fs::canonical(path, failed);
  if (failed || target.parent_path().filename() != "blobs") return {};
  const std::string name = target.filename().string();
  constexpr size_t kDigits = 64;
  const bool is_hash =
      name.size() == kDigits && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  return is_hash ? name : std::string();
}

VerifiedFile verify_file(const fs::path& root, const std::string& relative,
                         const ProgressCallback& progress) {
  const fs::path path = fs::is_regular_file(root) ? root : root / relative;
  const File file(path);
  VerifiedFile result{.path = relative, .num_bytes = file.size(), .sha256 = {}, .problem = {}};
  result.sha256 = sha256_of(file, progress);
  const std::string promised = promised_hash(path);
  if (!promised.empty() && promised != result.sha256) {
    result.problem =
        fmt::format("got SHA-256 {}, wanted {}; fetch it again", result.sha256, promised);
  }
  return result;
}

uint64_t count_non_finite(const io::Checkpoint& checkpoint) {
  for (const io::ComponentInfo& component : checkpoint.components()) {
    for (const std::string& name : checkpoint.tensor_names(component.name)) {
      const std::string tensor = component.name + "/" + name;
      Tensor values(checkpoint.type(tensor));
      checkpoint.read(tensor, values.type(), values.data());
    }
  }
  return checkpoint.num_non_finite();
}

bool is_plain_name(const std::string& name) {
  return is_safe_relative_path(name) && name.find('/') == std::string::npos;
}

// The folder or file that `name` stands for, as removing may touch it.
fs::path removable(const std::string& name, const std::string& models_dir,
                   const std::string& hf_cache) {
  std::error_code ignored;
  if (is_plain_name(name)) {
    const fs::path path = fs::path(models_dir) / name;
    const bool is_model =
        !models_dir.empty() && (fs::exists(path / "model_index.json", ignored) ||
                                (path.extension() == ".safetensors" && fs::exists(path, ignored)));
    if (is_model) return path;
    throw Error(Errc::kNotFound,
                fmt::format("{}: no model of this name in {}; 'halftone models list' shows them",
                            name, models_dir.empty() ? "--models-dir (none)" : models_dir));
  }
  if (io::is_model_id(name) && name.find('@') == std::string::npos) {
    const fs::path path =
        fs::path(hf_cache) / ("models--" + std::string(name).replace(name.find('/'), 1, "--"));
    if (!hf_cache.empty() && fs::is_directory(path, ignored)) return path;
    throw Error(Errc::kNotFound,
                fmt::format("{}: not in the Hugging Face cache {}", name, hf_cache));
  }
  throw Error(Errc::kInvalidArgument,
              fmt::format("models rm: got '{}', wanted the name of a model in --models-dir or "
                          "ORG/NAME in the Hugging Face cache; remove other folders yourself",
                          name));
}

}  // namespace

bool ModelVerification::passed() const {
  return num_non_finite == 0 &&
         std::ranges::all_of(files, [](const VerifiedFile& file) { return file.problem.empty(); });
}

ModelVerification verify_model(const std::string& model, const std::string& hf_cache,
                               const ProgressCallback& progress) {
  ModelOptions options;
  options.model = model;
  options.hf_cache = hf_cache;
  const workflow::Model opened = workflow::open_model(options, {}, {});
  ModelVerification result{.model = find_model(model, hf_cache), .files = {}};
  std::set<std::string> files;
  for (const io::ComponentInfo& component : opened.checkpoint->components()) {
    files.insert(component.files.begin(), component.files.end());
  }
  for (const std::string& file : files) {
    result.files.push_back(verify_file(opened.checkpoint->path(), file, progress));
  }
  result.num_non_finite = count_non_finite(*opened.checkpoint);
  return result;
}

RemovedModel remove_model(const std::string& name, const std::string& models_dir,
                          const std::string& hf_cache, bool dry_run) {
  const fs::path path = removable(name, models_dir, hf_cache);
  RemovedModel removed{.path = path.string()};
  const auto count = [&](const fs::path& file) {
    if (fs::is_symlink(file) || !fs::is_regular_file(file)) return;
    removed.num_bytes += fs::file_size(file);
    ++removed.num_files;
  };
  try {
    count(path);
    if (!fs::is_symlink(path) && fs::is_directory(path)) {
      for (const auto& entry : fs::recursive_directory_iterator(path)) count(entry.path());
    }
    if (!dry_run) fs::remove_all(path);
  } catch (const fs::filesystem_error& error) {
    throw Error(Errc::kIo,
                fmt::format("{}: cannot be removed: {}", path.string(), error.code().message()));
  }
  return removed;
}

}  // namespace halftone
