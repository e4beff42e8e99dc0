#include "io/hf_cache.h"

#include <algorithm>
#include <system_error>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/text.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

bool is_id_part(std::string_view part) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !part.empty() && part.size() <= 96 && part.front() != '.' && part.front() != '-' &&
         std::ranges::all_of(part, allowed);
}

struct Id {
  std::string repository;  // ORG/NAME
  std::string revision;
};

Id split_id(std::string_view text) {
  const size_t at = text.find('@');
  if (at == std::string_view::npos) return {std::string(text), "main"};
  return {std::string(text.substr(0, at)), std::string(text.substr(at + 1))};
}

}  // namespace

fs::path HfCacheLocations::root() const {
  if (!hf_hub_cache.empty()) return hf_hub_cache;
  if (!hf_home.empty()) return fs::path(hf_home) / "hub";
  if (!xdg_cache_home.empty()) return fs::path(xdg_cache_home) / "huggingface" / "hub";
  if (!home.empty()) return fs::path(home) / ".cache" / "huggingface" / "hub";
  return {};
}

bool is_model_id(std::string_view text) {
  const auto [repository, revision] = split_id(text);
  const size_t slash = repository.find('/');
  return slash != std::string::npos && is_id_part(std::string_view(repository).substr(0, slash)) &&
         is_id_part(std::string_view(repository).substr(slash + 1)) &&
         is_safe_relative_path(revision);
}

std::string hf_download_command(std::string_view id) {
  const auto [repository, revision] = split_id(id);
  return fmt::format("hf download {}{} --include '*.json' '*.txt' '*.safetensors'", repository,
                     revision == "main" ? "" : fmt::format(" --revision {}", revision));
}

fs::path find_in_hf_cache(std::string_view id, const HfCacheLocations& locations) {
  check_internal(is_model_id(id), "find_in_hf_cache: no model id");
  const auto [repository, revision] = split_id(id);
  const fs::path root = locations.root();
  const std::string remedy = fmt::format("fetch it with: {}", hf_download_command(id));
  if (root.empty()) {
    throw Error(
        Errc::kNotFound,
        fmt::format("{}: no such path, and no Hugging Face cache is known (HF_HOME and HOME "
                    "are unset); {}",
                    id, remedy),
        ErrorDetails{.remedy = remedy});
  }
  const size_t slash = repository.find('/');
  const std::string folder =
      fmt::format("models--{}--{}", repository.substr(0, slash), repository.substr(slash + 1));
  const fs::path model = root / folder;
  std::error_code error;
  if (!fs::is_directory(model, error)) {
    throw Error(Errc::kNotFound,
                fmt::format("{}: no such path, and not in the Hugging Face cache {}; {}", id,
                            root.string(), remedy),
                ErrorDetails{.remedy = remedy});
  }
  std::string commit = revision;  // a commit may be named directly
  const fs::path ref = model / "refs" / revision;
  if (fs::exists(ref, error)) {
    commit = read_text_file(ref, 4096);
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
    if (!is_id_part(commit)) {
      throw Error(Errc::kCorruptFile,
                  fmt::format("{}: got '{}', wanted a commit hash; {}", ref.string(),
                              printable(commit), remedy),
                  ErrorDetails{.file = ref.string(),
                               .got = printable(commit),
                               .wanted = "a commit hash",
                               .remedy = remedy});
    }
  }
  const fs::path snapshot = model / "snapshots" / commit;
  if (!fs::is_directory(snapshot, error)) {
    throw Error(
        Errc::kNotFound,
        fmt::format("{}: revision '{}' is not in the Hugging Face cache ({} does not exist); {}",
                    id, revision, snapshot.string(), remedy),
        ErrorDetails{.remedy = remedy});
  }
  return snapshot;
}

HfSnapshot hf_snapshot_of(const fs::path& folder) {
  std::error_code error;
  const fs::path path = fs::canonical(folder, error);
  if (error) return {};
  for (fs::path p = path; p.has_relative_path(); p = p.parent_path()) {
    const std::string name = p.filename().string();
    if (!name.starts_with("models--")) continue;
    const fs::path inside = path.lexically_relative(p);
    if (inside.empty() || *inside.begin() != "snapshots") return {};
    const size_t dashes = name.find("--", 8);
    if (dashes == std::string::npos) return {name.substr(8), p.parent_path()};
    return {fmt::format("{}/{}", name.substr(8, dashes - 8), name.substr(dashes + 2)),
            p.parent_path()};
  }
  return {};
}

}  // namespace halftone::io
