// Calibration dumps: what a denoiser was given and gave at each step, a file a prompt, so that its
// statistics can be made again without text encoders and trajectory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "io/safetensors.h"
#include "pipeline/components.h"
#include "runtime/executor.h"

namespace halftone::workflow {

// What all files of a dump say.
struct DumpFacts {
  std::vector<std::pair<std::string, std::string>> key;  // as CalibrationRecord::key
  pipeline::ShapeKey shape;                              // of the denoiser
  int num_steps = 0;
  bool operator==(const DumpFacts&) const = default;
};

// "prompt-00007.safetensors"; tensors "ts" f32[steps], "coefficients" f32[steps, ...],
// "xs" and "outputs" f32[steps, n, h, w, c] (latent before the step, guided model output),
// and "conditioning/NAME" for each input of the prompt.
[[nodiscard]] std::filesystem::path dump_file(const std::filesystem::path& folder, int64_t index);

// Whether an input of the denoiser is the prompt's: neither the schedule's nor a step's.
[[nodiscard]] bool is_conditioning(std::string_view input);

// Writes one prompt's file step by step; it appears on commit(), or not at all. The denoiser's plan
// shows its inputs (show_inputs in workflow/suffix.h).
class DumpWriter {
 public:
  // `graph`: the denoiser's, for the types of its inputs.
  DumpWriter(const std::filesystem::path& folder, int64_t index, const std::string& prompt,
             const DumpFacts& facts, const graph::Graph& graph);
  void add(int step, float timestep, const runtime::Executor& denoiser);
  void commit() { writer_.commit(); }

  // One step of a tensor, and an input of the prompt, for what was not made here. Each once.
  void put(const std::string& tensor, int step, std::span<const std::byte> bytes);
  void put_conditioning(const std::string& input, std::span<const std::byte> bytes);

 private:
  io::SafetensorsWriter writer_;
  std::vector<std::string> conditioning_;  // names of inputs
  size_t sample_bytes_;
  std::map<std::string, size_t> index_;  // of the writer's tensors
};

// One prompt of a dump. Every function throws kCorruptFile naming file, tensor and position.
class DumpedPrompt {
 public:
  explicit DumpedPrompt(const std::filesystem::path& file);

  [[nodiscard]] const DumpFacts& facts() const { return facts_; }
  // Before the first step: sets the conditioning, runs prompt and schedule stages.
  void begin(runtime::Executor& denoiser) const;
  void run_step(runtime::Executor& denoiser, int step) const;

 private:
  [[nodiscard]] const io::SafetensorsEntry& entry(const std::string& tensor,
                                                  const Shape& shape) const;
  // Elements of the tensor from `first` on.
  void read(const io::SafetensorsEntry& entry, uint64_t first, std::span<float> into) const;
  [[noreturn]] void fail(std::string_view text) const;

  io::SafetensorsFile file_;
  DumpFacts facts_;
};

// The dump in a folder: files dump_file(0) ... dump_file(n - 1) of one run. Throws kNotFound for a
// folder without any, kCorruptFile for gaps and for files of different runs.
class CalibrationDump {
 public:
  explicit CalibrationDump(std::filesystem::path folder);

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] const DumpFacts& facts() const { return facts_; }
  [[nodiscard]] DumpedPrompt open(int index) const;

 private:
  std::filesystem::path folder_;
  int size_ = 0;
  DumpFacts facts_;
};

}  // namespace halftone::workflow
