// The local Hugging Face cache, read only.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace halftone::io {

// Values of the environment variables of the same name; empty when unset.
struct HfCacheLocations {
  std::string hf_hub_cache, hf_home, xdg_cache_home, home;
  // $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub; empty
  // when none is known.
  [[nodiscard]] std::filesystem::path root() const;
};

// True for ORG/NAME and ORG/NAME@REVISION.
[[nodiscard]] bool is_model_id(std::string_view text);

// Folder of the snapshot that `id` names. Throws kNotFound with the command that fetches it, or
// kCorruptFile for a damaged reference.
[[nodiscard]] std::filesystem::path find_in_hf_cache(std::string_view id,
                                                     const HfCacheLocations& locations);

// "hf download ORG/NAME --include ...".
[[nodiscard]] std::string hf_download_command(std::string_view id);

// For a folder inside a cache (.../models--ORG--NAME/snapshots/COMMIT): the id "ORG/NAME" and the
// cache's root, within which symbolic links are legitimate. Empty strings otherwise.
struct HfSnapshot {
  std::string id;
  std::filesystem::path cache_root;
};
[[nodiscard]] HfSnapshot hf_snapshot_of(const std::filesystem::path& folder);

}  // namespace halftone::io
