#include "workflow/mixdq_dump.h"

#include <cstring>

#include <fmt/format.h>

#include "halftone/error.h"

#include "tensor/step_coefficients.h"

namespace halftone::workflow {
namespace {

using io::PickleValue;
using Kind = PickleValue::Kind;

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.data(), tensor.type().num_bytes()};
}

// [channels, h, w] -> [h, w, channels].
Tensor channels_last(const Tensor& x) {
  const Shape& s = x.shape();
  Tensor y({DType::kF32, {s[1], s[2], s[0]}});
  const auto from = x.values<float>();
  const auto to = y.values<float>();
  const auto channels = static_cast<size_t>(s[0]);
  const size_t pixels = from.size() / channels;
  for (size_t i = 0; i < from.size(); ++i) to[i % pixels * channels + i / pixels] = from[i];
  return y;
}

}  // namespace

MixdqDump::MixdqDump(const std::filesystem::path& path) : file_(path), where_(path.string()) {
  const io::Pickle& pickle = file_.pickle();
  const PickleValue& root = file_.root();
  if (root.kind != Kind::kDict) fail("is no dict; wanted what MixDQ's gen_calib_data.py saves");
  const PickleValue* prompts = pickle.find(root, "prompts");
  if (prompts == nullptr || prompts->kind != Kind::kList) fail("has no list 'prompts'");
  for (const uint32_t item : prompts->items) {
    if (pickle.at(item).kind != Kind::kString) fail("'prompts' holds something else than texts");
    prompts_.push_back(pickle.at(item).text);
  }
  ts_ = tensor(root, "ts", 2);
  xs_ = tensor(root, "xs", 5);
  conditioning_["encoder_hidden_states"] = tensor(root, "text_embs", 4);
  if (const PickleValue* added = pickle.find(root, "added_cond_kwargs")) {
    conditioning_["text_embeds"] = tensor(*added, "text_embeds", 3);
    conditioning_["time_ids"] = tensor(*added, "time_ids", 3);
  }
  const auto samples = static_cast<int64_t>(prompts_.size());
  if (samples == 0 || xs_.shape[0] == 0) fail("holds no samples");
  const auto check = [&](std::string_view name, const io::TorchTensor& x) {
    if (x.shape[0] == xs_.shape[0] && x.shape[1] == samples) return;
    const bool guided = x.shape[0] == xs_.shape[0] && x.shape[1] == 2 * samples;
    const std::string text = fmt::format("'{}' has {} steps of {} samples, wanted {} of {}", name,
                                         x.shape[0], x.shape[1], xs_.shape[0], samples);
    if (!guided) fail(text);
    throw Error(Errc::kUnsupported,
                fmt::format("{}: {}; a run with guidance is not read, calibrate with --dump",
                            where_, text));
  };
  check("xs", xs_);
  check("ts", ts_);
  for (const auto& [name, x] : conditioning_) check(name, x);
}

void MixdqDump::fail(std::string_view text) const {
  throw Error(Errc::kCorruptFile, fmt::format("{}: {}", where_, text));
}

const io::TorchTensor& MixdqDump::tensor(const PickleValue& dict, std::string_view key,
                                         size_t rank) const {
  const PickleValue* value = file_.pickle().find(dict, key);
  if (value == nullptr) fail(fmt::format("has no '{}'", key));
  const io::TorchTensor& tensor = file_.tensor(*value, key);
  if (tensor.shape.size() == rank && tensor.num_elements() > 0) return tensor;
  fail(fmt::format("'{}' is {}, wanted {} extents of at least 1", key,
                   to_string(Shape(tensor.shape)), rank));
}

Tensor MixdqDump::sample(const io::TorchTensor& of, int64_t step, int64_t prompt) const {
  io::TorchTensor one = of;
  one.offset += step * of.strides[0] + prompt * of.strides[1];
  one.shape.erase(one.shape.begin(), one.shape.begin() + 2);
  one.strides.erase(one.strides.begin(), one.strides.begin() + 2);
  return file_.read(one);
}

void MixdqDump::write(const std::filesystem::path& folder, int count, const DumpFacts& facts,
                      const graph::Graph& graph) const {
  for (const graph::Value& value : graph.values()) {
    if (!value.is_input) continue;
    const auto found = conditioning_.find(value.name);
    std::vector<int64_t> wanted = value.type.shape.dims();
    if (value.name == "state") {
      wanted = {wanted[1], wanted[4], wanted[2], wanted[3]};
    } else if (!is_conditioning(value.name)) {
      continue;
    } else if (found == conditioning_.end()) {
      fail(fmt::format("has nothing for the denoiser's input '{}'", value.name));
    }
    const io::TorchTensor& x = value.name == "state" ? xs_ : found->second;
    std::vector<int64_t> got(x.shape.begin() + 1, x.shape.end());
    got[0] = 1;
    if (got == wanted) continue;
    fail(fmt::format("'{}' is {} a sample, wanted {}", value.name == "state" ? "xs" : value.name,
                     to_string(Shape(got)), to_string(Shape(wanted))));
  }
  for (int i = 0; i < count; ++i) {
    DumpWriter writer(folder, i, prompts_[static_cast<size_t>(i)], facts, graph);
    write_prompt(writer, i);
    writer.commit();
  }
}

void MixdqDump::write_prompt(DumpWriter& writer, int64_t prompt) const {
  StepCoefficients coefficients;  // xs are scaled already; the update is not looked at
  std::vector<float> values(static_cast<size_t>(kNumStepCoefficients));
  std::memcpy(values.data(), &coefficients, sizeof(coefficients));
  for (int step = 0; step < num_steps(); ++step) {
    if (step == 0) {
      for (const auto& [name, x] : conditioning_) {
        writer.put_conditioning(name, bytes_of(sample(x, 0, prompt)));
      }
    }
    const Tensor x = channels_last(sample(xs_, step, prompt));
    writer.put("ts", step, bytes_of(sample(ts_, step, prompt)));
    writer.put("coefficients", step, std::as_bytes(std::span(values)));
    writer.put("xs", step, bytes_of(x));
    writer.put("outputs", step, bytes_of(Tensor::zeros(x.type())));
  }
}

}  // namespace halftone::workflow
