// MixDQ's calibration data as a calibration dump.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "io/torch_file.h"
#include "workflow/calibration_dump.h"

namespace halftone::workflow {

// What MixDQ's gen_calib_data.py saves: a dict of "prompts", "ts" [steps, n], "xs" [steps, n,
// channels, h, w] (what the UNet was given, scaled), "text_embs" [steps, n, tokens, width] and
// "added_cond_kwargs" {"text_embeds" [steps, n, width], "time_ids" [steps, n, 6]} (SDXL). Runs
// without guidance (SDXL-Turbo's): one conditioning a sample.
class MixdqDump {
 public:
  // Throws as TorchFile; kCorruptFile naming the key for entries that are missing or whose extents
  // disagree, kUnsupported for a run with guidance.
  explicit MixdqDump(const std::filesystem::path& path);

  [[nodiscard]] const std::vector<std::string>& prompts() const { return prompts_; }
  [[nodiscard]] int num_steps() const { return static_cast<int>(xs_.shape[0]); }
  // Of the latents.
  [[nodiscard]] int64_t height() const { return xs_.shape[3]; }
  [[nodiscard]] int64_t width() const { return xs_.shape[4]; }

  // Writes the first `count` prompts' files for the denoiser `graph`. Throws kCorruptFile for
  // tensors that are not of the extents of its inputs.
  void write(const std::filesystem::path& folder, int count, const DumpFacts& facts,
             const graph::Graph& graph) const;

 private:
  [[noreturn]] void fail(std::string_view text) const;
  [[nodiscard]] const io::TorchTensor& tensor(const io::PickleValue& dict, std::string_view key,
                                              size_t rank) const;
  void write_prompt(DumpWriter& writer, int64_t prompt) const;
  // One sample at one step.
  [[nodiscard]] Tensor sample(const io::TorchTensor& of, int64_t step, int64_t prompt) const;

  io::TorchFile file_;
  std::string where_;
  std::vector<std::string> prompts_;
  io::TorchTensor ts_, xs_;
  std::map<std::string, io::TorchTensor> conditioning_;  // by the denoiser's names
};

}  // namespace halftone::workflow
