// Hashes that identify a checkpoint.
#pragma once

#include <filesystem>
#include <string>

#include "io/checkpoint.h"

namespace halftone::io {

// See Checkpoint::structure_hash and content_hash.
[[nodiscard]] std::string hash_structure(const CheckpointParts& parts);
[[nodiscard]] std::string hash_contents(const CheckpointParts& parts,
                                        const std::filesystem::path& cache, const Logger& logger);

// SHA-256 (hex) over the sha256_lanes of each 8 MiB piece, computed in parallel.
[[nodiscard]] std::string hash_file(const File& file);

}  // namespace halftone::io
