#include "workflow/calibration_dump.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/folder.h"
#include "base/json.h"
#include "base/text.h"
#include "tensor/step_coefficients.h"
#include "workflow/suffix.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVersion = 1;
constexpr std::string_view kMetadataKey = "halftone.calibration_dump";
constexpr std::string_view kPrefix = "prompt-";
constexpr std::string_view kExtension = ".safetensors";
constexpr std::string_view kConditioning = "conditioning/";
constexpr int64_t kMaxSteps = 10'000;
constexpr int64_t kMaxExtent = 1 << 16;
constexpr const char* kState = "state";
constexpr const char* kModelOutput = "model_output";

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.data(), tensor.type().num_bytes()};
}

const graph::Value& input_of(const graph::Graph& graph, std::string_view name) {
  const auto& values = graph.values();
  const auto found = std::ranges::find_if(
      values, [&](const graph::Value& value) { return value.is_input && value.name == name; });
  check_internal(found != values.end(), "the denoiser has a state");
  return *found;
}

// Of the latent alone, without the scheduler's history.
Shape sample_shape(const graph::Graph& graph) {
  const std::vector<int64_t> dims = input_of(graph, kState).type.shape.dims();
  return Shape(std::vector<int64_t>(dims.begin() + 1, dims.end()));
}

Shape with_steps(int num_steps, const Shape& one) {
  std::vector<int64_t> dims = {num_steps};
  dims.insert(dims.end(), one.dims().begin(), one.dims().end());
  return Shape(std::move(dims));
}

std::vector<io::NamedType> tensors_of(const DumpFacts& facts, const graph::Graph& graph) {
  const int steps = facts.num_steps;
  const TensorType samples{DType::kF32, with_steps(steps, sample_shape(graph))};
  std::vector<io::NamedType> tensors = {
      {"ts", {DType::kF32, {steps}}},
      {"coefficients", {DType::kF32, {steps, kNumStepCoefficients}}},
      {"xs", samples},
      {"outputs", samples}};
  for (const graph::Value& value : graph.values()) {
    if (value.is_input && is_conditioning(value.name)) {
      tensors.push_back({std::string(kConditioning) + value.name, value.type});
    }
  }
  return tensors;
}

std::string describe(const std::string& prompt, const DumpFacts& facts) {
  Json key = Json::object();
  for (const auto& [name, value] : facts.key) key.set(name, value);
  Json shape = Json::object();
  for (const auto& [name, value] : facts.shape) shape.set(name, value);
  return to_text(Json::object({{"version", kVersion},
                               {"prompt", prompt},
                               {"num_steps", facts.num_steps},
                               {"shape", std::move(shape)},
                               {"key", std::move(key)}}));
}

}  // namespace

bool is_conditioning(std::string_view input) {
  constexpr std::array<std::string_view, 4> kOthers = {kState, "noise", "coefficients", "timestep"};
  return std::ranges::find(kOthers, input) == kOthers.end();
}

fs::path dump_file(const fs::path& folder, int64_t index) {
  return folder / fmt::format("{}{:05d}{}", kPrefix, index, kExtension);
}

DumpWriter::DumpWriter(const fs::path& folder, int64_t index, const std::string& prompt,
                       const DumpFacts& facts, const graph::Graph& graph)
    : writer_(dump_file(folder, index), tensors_of(facts, graph),
              {{std::string(kMetadataKey), describe(prompt, facts)}}),
      sample_bytes_(static_cast<size_t>(sample_shape(graph).num_elements()) * sizeof(float)) {
  for (size_t i = 0; i < writer_.tensors().size(); ++i) {
    const std::string& name = writer_.tensors()[i].name;
    index_[name] = i;
    if (name.starts_with(kConditioning)) conditioning_.push_back(name.substr(kConditioning.size()));
  }
}

void DumpWriter::put(const std::string& tensor, int step, std::span<const std::byte> bytes) {
  writer_.write(index_.at(tensor), static_cast<uint64_t>(step) * bytes.size(), bytes);
}

void DumpWriter::put_conditioning(const std::string& input, std::span<const std::byte> bytes) {
  put(std::string(kConditioning) + input, 0, bytes);
}

void DumpWriter::add(int step, float timestep, const runtime::Executor& denoiser) {
  if (step == 0) {
    for (const std::string& name : conditioning_) {
      put_conditioning(name, bytes_of(denoiser.output(shown_input(name))));
    }
  }
  put("ts", step, std::as_bytes(std::span(&timestep, 1)));
  put("coefficients", step, bytes_of(denoiser.output(shown_input("coefficients"))));
  const Tensor state = denoiser.output(shown_input(kState));
  put("xs", step, bytes_of(state).first(sample_bytes_));
  put("outputs", step, bytes_of(denoiser.output(kModelOutput)));
}

DumpedPrompt::DumpedPrompt(const fs::path& file) : file_(file) {
  const std::string where = file.string();
  const auto& metadata = file_.header().metadata;
  const auto found =
      std::ranges::find(metadata, kMetadataKey, &std::pair<std::string, std::string>::first);
  if (found == metadata.end()) fail("is no calibration dump");
  const Json json = parse_json(found->second, where);
  const JsonView view(json, where);
  if (view.at("version").integer() != kVersion) {
    fail(fmt::format("is of version {}, this program reads {}; make the dump again",
                     view.at("version").integer(), kVersion));
  }
  facts_.num_steps = static_cast<int>(view.at("num_steps").integer(1, kMaxSteps));
  for (const auto& [name, value] : view.at("shape").members()) {
    facts_.shape[name] = value.integer(0, kMaxExtent);
  }
  for (const auto& [name, value] : view.at("key").members()) {
    facts_.key.emplace_back(name, value.string());
  }
  // Its bytes are in the file, so that no extent asks for more memory than the file is large.
  const io::SafetensorsEntry* samples = file_.find("xs");
  const bool fits =
      samples != nullptr && samples->shape.rank() == 5 && samples->shape[0] == facts_.num_steps &&
      samples->shape[2] == facts_.shape["height"] && samples->shape[3] == facts_.shape["width"];
  if (!fits) fail("tensor 'xs' is missing, or not of the steps and the size that the file names");
}

void DumpedPrompt::fail(std::string_view text) const {
  constexpr size_t kMostBytes = 400;
  throw Error(Errc::kCorruptFile,
              fmt::format("{}: {}", file_.file().path().string(), printable(text, kMostBytes)));
}

const io::SafetensorsEntry& DumpedPrompt::entry(const std::string& tensor,
                                                const Shape& shape) const {
  const io::SafetensorsEntry* found = file_.find(tensor);
  if (found == nullptr) fail(fmt::format("tensor '{}' is missing", tensor));
  const TensorType wanted{DType::kF32, shape};
  if (found->dtype != wanted.dtype || found->shape != wanted.shape) {
    fail(fmt::format("tensor '{}' at byte {} is {} {}, wanted {}", tensor, found->begin,
                     found->dtype_name, to_string(found->shape), to_string(wanted)));
  }
  return *found;
}

void DumpedPrompt::read(const io::SafetensorsEntry& entry, uint64_t first,
                        std::span<float> into) const {
  const uint64_t bad =
      file_.read(entry, first, into.size(), DType::kF32, std::as_writable_bytes(into).data());
  if (bad == 0) return;
  fail(fmt::format("tensor '{}' holds {} values that are not finite, from byte {} on", entry.name,
                   bad, entry.begin + first * sizeof(float)));
}

void DumpedPrompt::begin(runtime::Executor& denoiser) const {
  for (const io::SafetensorsEntry& stored : file_.header().tensors) {
    if (!stored.name.starts_with(kConditioning)) continue;
    const std::string name = stored.name.substr(kConditioning.size());
    if (!denoiser.has_input(name)) {
      fail(fmt::format("tensor '{}' at byte {} is no input of this denoiser", stored.name,
                       stored.begin));
    }
  }
  for (const runtime::Binding& input : denoiser.profile().inputs) {
    if (!is_conditioning(input.name)) continue;
    Tensor tensor(denoiser.input_type(input.name));
    read(entry(std::string(kConditioning) + input.name, tensor.shape()), 0, tensor.values<float>());
    denoiser.set_input(input.name, tensor);
  }
  denoiser.run_prompt();
  std::vector<float> timesteps(static_cast<size_t>(facts_.num_steps));
  read(entry("ts", {facts_.num_steps}), 0, timesteps);
  for (int step = 0; step < facts_.num_steps; ++step) {
    const float timestep = timesteps[static_cast<size_t>(step)];
    denoiser.set_input("timestep", Tensor::from({1}, std::span(&timestep, 1)));
    denoiser.run_schedule(step);
  }
  denoiser.set_input("noise", Tensor::zeros(denoiser.input_type("noise")));
}

void DumpedPrompt::run_step(runtime::Executor& denoiser, int step) const {
  const auto at = static_cast<uint64_t>(step);
  Tensor coefficients(denoiser.input_type("coefficients"));
  read(entry("coefficients", {facts_.num_steps, kNumStepCoefficients}), at * kNumStepCoefficients,
       coefficients.values<float>());
  denoiser.set_input("coefficients", coefficients);
  Tensor state = Tensor::zeros(denoiser.input_type(kState));
  const std::vector<int64_t>& dims = state.shape().dims();
  const Shape sample(std::vector<int64_t>(dims.begin() + 1, dims.end()));
  const auto count = static_cast<uint64_t>(sample.num_elements());
  read(entry("xs", with_steps(facts_.num_steps, sample)), at * count,
       state.values<float>().first(count));
  denoiser.set_input(kState, state);
  denoiser.run_step(step);
}

CalibrationDump::CalibrationDump(fs::path folder) : folder_(std::move(folder)) {
  for (const std::string& name : list_folder(folder_)) {
    if (name.starts_with(kPrefix) && name.ends_with(kExtension)) ++size_;
  }
  if (size_ == 0) {
    throw Error(Errc::kNotFound,
                fmt::format("{}: holds no calibration dump ({}); make one with 'halftone calibrate "
                            "--dump'",
                            folder_.string(), dump_file({}, 0).string()));
  }
  for (int i = 0; i < size_; ++i) {
    std::error_code ignored;
    if (fs::exists(dump_file(folder_, i), ignored)) continue;
    throw Error(
        Errc::kCorruptFile,
        fmt::format("{}: is missing, though the folder holds {} prompts; make the dump again",
                    dump_file(folder_, i).string(), size_));
  }
  facts_ = DumpedPrompt(dump_file(folder_, 0)).facts();
}

DumpedPrompt CalibrationDump::open(int index) const {
  DumpedPrompt prompt(dump_file(folder_, index));
  if (prompt.facts() == facts_) return prompt;
  throw Error(Errc::kCorruptFile,
              fmt::format("{}: is of another run than {}; make the dump again",
                          dump_file(folder_, index).string(), dump_file(folder_, 0).string()));
}

}  // namespace halftone::workflow
