// The readers of the layouts, shared between checkpoint.cpp and the layouts' own files.
#pragma once

#include <filesystem>

#include "io/checkpoint.h"

namespace halftone::io {

// `fence`: where symbolic links may lead (the Hugging Face cache), empty: nowhere outside `root`.
[[nodiscard]] CheckpointParts open_diffusers_folder(const std::filesystem::path& root,
                                                    const std::filesystem::path& fence,
                                                    const OpenOptions& options);
[[nodiscard]] CheckpointParts open_clip_folder(const std::filesystem::path& root,
                                               const std::filesystem::path& fence,
                                               const OpenOptions& options);
[[nodiscard]] CheckpointParts open_single_file(const std::filesystem::path& path,
                                               const OpenOptions& options);

// Keeps a JSON document, which must be an object, with the checkpoint.
[[nodiscard]] JsonView keep_document(CheckpointParts& parts, Json document,
                                     const std::string& where);
// The same for the file `root`/`relative`, which may hold Python's infinities.
[[nodiscard]] JsonView read_document(CheckpointParts& parts, const std::filesystem::path& root,
                                     const std::string& relative,
                                     const std::filesystem::path& fence);
// Keeps a document and files a view of it under `key` of parts.configs.
void add_config(CheckpointParts& parts, const std::string& key, Json document,
                const std::string& where);
// The same for the file `root`/`relative`.
void read_config(CheckpointParts& parts, const std::string& key, const std::filesystem::path& root,
                 const std::string& relative, const std::filesystem::path& fence);
// Reads a tokenizer's files; nullopt when the folder has neither vocab.json nor
// tokenizer.json.
[[nodiscard]] std::optional<TokenizerFiles> read_tokenizer(const std::filesystem::path& root,
                                                           const std::string& name,
                                                           const std::filesystem::path& fence);
// Files `source` under "<component>/<name>", VAE attention weights as matrices; two tensors of one
// name are kCorruptFile.
void add_tensor(CheckpointParts& parts, const std::string& component, const std::string& name,
                TensorSource source);
void warn(CheckpointParts& parts, const Logger& logger, std::string text);

}  // namespace halftone::io
