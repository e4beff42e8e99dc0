// What the compiler decides for the tiny models on CPUs that need not be this one: every call with
// its kernel, compared with the recorded text. Where memory lies is left out: scratch sizes come
// from the oneDNN of the machine. HALFTONE_UPDATE_PLANS=1 writes the files anew.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "base/file.h"
#include "base/json.h"
#include "compile/compile.h"
#include "models/registry.h"

namespace halftone {
namespace {

using runtime::Profile;

struct Config {
  std::string_view name;    // tests/plans/<name>.txt
  std::string_view folder;  // of the component, under tests/golden
  std::string_view component;
  DType compute_dtype;
  std::string_view newest_feature;  // of the CPU: this one and all before it
};

void PrintTo(const Config& config, std::ostream* out) { *out << config.name; }

backend::DeviceInfo device_info(std::string_view newest_feature) {
  backend::DeviceInfo info;
  info.name = "cpu";
  info.arch = "x86-64";
  info.num_units = 4;
  info.memory_bytes = size_t{64} << 30U;
  info.host_visible_memory = true;
  for (const char* feature :
       {"avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}) {
    info.features.emplace_back(feature);
    info.arch.append("+").append(feature);
    if (feature == newest_feature) break;
  }
  return info;
}

// A plan as text: calls with their kernels and the values between them, numbered as they come up;
// then, once each, why kernels of higher priority refused. "c" is a constant.
class Printer {
 public:
  explicit Printer(const Profile& profile) : profile_(profile) {}

  std::string run() {
    for (const runtime::Binding& input : profile_.inputs) {
      text_ += fmt::format("input {} {} {}\n", value(input.slot), input.name, type(input.slot));
    }
    for (size_t stage = 0; stage < profile_.stages.size(); ++stage) {
      text_ += fmt::format("stage {}\n", graph::to_string(static_cast<graph::Rate>(stage)));
      for (const runtime::Call& call : profile_.stages[stage]) print(call);
    }
    for (const runtime::Binding& output : profile_.outputs) {
      text_ += fmt::format("output {} {}\n", value(output.slot), output.name);
    }
    for (const auto& [refusal, count] : refusals_) {
      text_ += fmt::format("not {} ({})\n", refusal, count);
    }
    return std::move(text_);
  }

 private:
  void print(const runtime::Call& call) {
    text_ += fmt::format("{} {}", call.kernel, call.name);
    const std::string attrs = graph::print_attrs(call.attrs);
    text_ += attrs.substr(attrs.find('{'));
    if (call.packs_weight) text_ += " packed";
    for (const runtime::CallOperand& operand : call.inputs) {
      text_ += fmt::format(" {}={}", graph::to_string(operand.role), value(operand.slot));
    }
    for (const runtime::SlotId id : call.outputs) {
      text_ += fmt::format(" -> {} {}", value(id), type(id));
    }
    text_ += '\n';
    for (const auto& [kernel, reason] : call.refused) {
      ++refusals_[fmt::format("{}: {}", kernel, reason)];
    }
  }

  [[nodiscard]] std::string type(runtime::SlotId id) const {
    return to_string(profile_.slots[id].type);
  }

  std::string value(runtime::SlotId id) {
    const runtime::Slot& slot = profile_.slots[id];
    if (slot.storage == runtime::Storage::kView) {
      return fmt::format("{}@{}", value(slot.base), slot.offset);
    }
    if (slot.rate == graph::Rate::kLoad) return "c";
    return fmt::format("%{}", numbers_.emplace(id, numbers_.size()).first->second);
  }

  const Profile& profile_;
  std::map<runtime::SlotId, size_t> numbers_;
  std::map<std::string, int> refusals_;
  std::string text_;
};

class Plans : public testing::TestWithParam<Config> {};

TEST_P(Plans, AreTheRecordedOnes) {
  const Config& config = GetParam();
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  if (config.compute_dtype == DType::kBF16 && !device->info().has("avx512")) {
    GTEST_SKIP() << "oneDNN describes bf16 on AVX-512 machines only";
  }
  const std::string config_file =
      fmt::format("{}/tests/golden/{}/config.json", HALFTONE_SOURCE_DIR, config.folder);
  const Json value = parse_json(read_text_file(config_file), config_file);
  const JsonView json(value, config_file);
  const std::string component(config.component);
  graph::Graph graph =
      models::build(component, models::class_name_of(json.value()), json,
                    {.batch = 1, .height = 8, .width = 8, .text_tokens = 77, .cfg = true},
                    {.compute_dtype = config.compute_dtype});
  const Profile profile = compile::compile_profile(
      std::move(graph), {{"batch", 1}}, device_info(config.newest_feature), device->kernels());

  const std::filesystem::path file =
      fmt::format("{}/tests/plans/{}.txt", HALFTONE_SOURCE_DIR, config.name);
  const std::string text = Printer(profile).run();
  if (std::getenv("HALFTONE_UPDATE_PLANS") != nullptr) std::ofstream(file) << text;
  EXPECT_EQ(text, read_text_file(file)) << "scripts/update_plans.sh writes the files anew";
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, Plans,
    testing::Values(Config{"unet_plain-fp32-avx512", "model-variants/plain/unet", "unet",
                           DType::kF32, "avx512_vnni"},
                    Config{"unet_plain-fp32-avx2", "model-variants/plain/unet", "unet", DType::kF32,
                           "avx2"},
                    Config{"unet_plain-bf16-amx", "model-variants/plain/unet", "unet", DType::kBF16,
                           "amx_int8"},
                    Config{"vae_decoder-bf16-avx512", "tiny-sdxl/vae", "vae_decoder", DType::kBF16,
                           "avx512_vnni"},
                    Config{"text_encoder_2-fp32-avx512", "tiny-sdxl/text_encoder_2",
                           "text_encoder_2", DType::kF32, "avx512_vnni"}),
    [](const auto& test) {
      std::string name(test.param.name);
      std::ranges::replace(name, '-', '_');
      return name;
    });

}  // namespace
}  // namespace halftone
