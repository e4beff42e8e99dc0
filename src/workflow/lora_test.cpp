// LoRAs from the options to the latents: against diffusers, and in what identifies a plan.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "workflow/calibrate.h"
#include "workflow/generator.h"
#include "workflow/quantization.h"
#include "workflow/quantize.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = HALFTONE_SOURCE_DIR;
const fs::path kGolden = kSource / "tests" / "golden";

class LoraWorkflow : public ::testing::Test {
 protected:
  static SessionOptions session(const fs::path& model, const std::vector<LoraOption>& loras) {
    SessionOptions options;
    options.model.model = model.string();
    options.model.loras = loras;
    options.precision = Precision::kF32;
    return options;
  }

  static Tensor tensor(const fs::path& path, const std::string& name) {
    const io::SafetensorsFile file(path);
    const io::SafetensorsEntry* entry = file.find(name);
    check_internal(entry != nullptr, "golden tensor exists");
    Tensor result({DType::kF32, entry->shape});
    file.read(*entry, 0, static_cast<uint64_t>(entry->shape.num_elements()), DType::kF32,
              result.data());
    return result;
  }

  // Runs a recorded case through generate() and returns the relative L2 of the final latents.
  double run(const fs::path& model, const fs::path& numbers, const fs::path& lora,
             const std::string& scheduler, const std::string& scheme = "") {
    const std::string text = read_text_file(numbers / "pipelines.json");
    const Json document = parse_json(text, "pipelines.json", {.python_numbers = true});
    const JsonView test = JsonView(document, "pipelines.json").at("cases").items().at(0);
    const std::string name = test.at("name").string();
    GenerateOptions options;
    options.prompt = test.at("prompt").string();
    if (const auto negative = test.find("negative_prompt")) {
      options.negative_prompt = negative->string();
    }
    options.width = static_cast<int>(test.at("width").integer());
    options.height = static_cast<int>(test.at("height").integer());
    options.steps = static_cast<int>(test.at("steps").integer());
    options.guidance = test.at("guidance_scale").number();
    options.scheduler = scheduler;
    options.rng = Rng::kCpu;
    options.seed = static_cast<uint64_t>(test.integer_or("seed", 0));
    options.output_type = OutputType::kLatent;
    options.dump_latents = (folder_ / "found.safetensors").string();
    if (!test.has("seed")) {
      const Tensor start = tensor(numbers / "pipelines.safetensors", name + ".start_noise");
      options.latents = (folder_ / "start.safetensors").string();
      io::SafetensorsWriter writer(options.latents, {{"latents", start.type()}});
      writer.write(0, 0, {start.data(), start.type().num_bytes()});
      writer.commit();
    }
    const auto device = backend::cpu::create_cpu_device({.threads = 2, .disabled_features = {}});
    SessionOptions with_lora = session(model, {{lora.string(), test.at("lora_weight").number()}});
    with_lora.quantization.scheme = scheme;
    Generator generator(*device, with_lora);
    const GenerateReport report = generator.generate(options, {});
    EXPECT_EQ(report.request.loras.size(), 1U);
    EXPECT_GT(report.request.loras[0].num_modules, 0);
    const Tensor want = tensor(numbers / "pipelines.safetensors", name + ".final_latents");
    const Tensor got = tensor(options.dump_latents, "latents");
    double error = 0, norm = 0;
    for (size_t i = 0; i < want.values<float>().size(); ++i) {
      const double difference = double{got.values<float>()[i]} - double{want.values<float>()[i]};
      error += difference * difference;
      norm += std::pow(double{want.values<float>()[i]}, 2);
    }
    RecordProperty("relative_l2", std::to_string(std::sqrt(error / norm)));
    return std::sqrt(error / norm);
  }

  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
};

constexpr double kMaxLatentError = 1e-4;  // promised: 1e-3

TEST_F(LoraWorkflow, KohyaOnUnetAndTextEncodersEqualsDiffusers) {
  const fs::path numbers = kGolden / "lora" / "kohya";
  EXPECT_LE(run(kGolden / "tiny-sdxl", numbers, numbers / "lora.safetensors", ""), kMaxLatentError);
}

TEST_F(LoraWorkflow, PeftWithMetadataEqualsDiffusers) {
  const fs::path numbers = kGolden / "lora" / "peft";
  EXPECT_LE(run(kGolden / "tiny-sdxl", numbers, numbers / "lora.safetensors", ""), kMaxLatentError);
}

TEST_F(LoraWorkflow, EmojiXlLcmInFourStepsEqualsDiffusers) {
  EXPECT_LE(run(kSource / "models" / "emoji-xl", kGolden / "lora" / "emoji-xl-lcm",
                kSource / "models" / "emoji-xl-lcm", "lcm"),
            kMaxLatentError);
}

TEST_F(LoraWorkflow, FingerprintsNameTheLoras) {
  const auto device = backend::cpu::create_cpu_device({.threads = 2, .disabled_features = {}});
  const auto fingerprints = [&](const std::vector<LoraOption>& loras) {
    const Generator generator(*device, session(kGolden / "tiny-sdxl", loras));
    std::map<std::string, std::string> found;
    GenerateOptions options;
    options.prompt = "a cat";
    for (const PlanChoice& plan : generator.dry_run(options).plans) {
      found[plan.component] = plan.fingerprint;
    }
    return found;
  };
  const std::string peft = (kGolden / "lora" / "peft" / "lora.safetensors").string();
  const auto plain = fingerprints({}), one = fingerprints({{peft, 1}}),
             half = fingerprints({{peft, 0.5}});
  EXPECT_NE(plain.at("unet"), one.at("unet"));
  EXPECT_NE(one.at("unet"), half.at("unet"));
  EXPECT_EQ(plain.at("text_encoder"), one.at("text_encoder"));  // this LoRA leaves it alone
  EXPECT_EQ(plain.at("vae_decoder"), one.at("vae_decoder"));
  EXPECT_EQ(fingerprints({{peft, 1}}).at("unet"), one.at("unet"));
}

TEST_F(LoraWorkflow, PlanFileOfOtherLorasIsRefused) {
  const auto device = backend::cpu::create_cpu_device({.threads = 2, .disabled_features = {}});
  BuildOptions build;
  build.component = "unet";
  build.save = (folder_ / "unet.plan").string();
  static_cast<void>(Generator(*device, session(kGolden / "tiny-sdxl", {})).build(build));
  SessionOptions options = session(
      kGolden / "tiny-sdxl", {{.path = (kGolden / "lora" / "peft" / "lora.safetensors").string()}});
  options.plan = build.save;
  GenerateOptions generate;
  generate.prompt = "a cat";
  generate.steps = 1;
  generate.output_type = OutputType::kLatent;
  try {
    Generator generator(*device, options);
    static_cast<void>(generator.generate(generate, {}));
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(to_string(e.code()), to_string(Errc::kIncompatiblePlan)) << e.what();
    EXPECT_NE(std::string(e.what()).find("built for no LoRA"), std::string::npos) << e.what();
  }
}

// The LoRA is part of the weights that are quantized: 8 bits stay near the fp32 picture with it.
TEST_F(LoraWorkflow, EmojiXlLcmIn8BitsStaysNear) {
  const double error = run(kSource / "models" / "emoji-xl", kGolden / "lora" / "emoji-xl-lcm",
                           kSource / "models" / "emoji-xl-lcm", "lcm", "int8_dynamic");
  EXPECT_GT(error, kMaxLatentError);
  EXPECT_LT(error, 0.2);
}

// A record of one prompt and step into the default place; returns it.
std::string calibrated(backend::Device& device, const SessionOptions& session) {
  CalibrateOptions options;
  options.session = session;
  options.prompts = {"a cat"};
  options.calib_size = options.batch_size = 1;
  options.generate.steps = 1;
  return calibrate(device, options).record;
}

TEST_F(LoraWorkflow, RecordsBelongToTheirLoras) {
  const auto device = backend::cpu::create_cpu_device({.threads = 2, .disabled_features = {}});
  const LoraOption lora{(kGolden / "lora" / "peft" / "lora.safetensors").string(), 1};
  SessionOptions plain = session(kGolden / "tiny-sdxl", {});
  SessionOptions with_lora = session(kGolden / "tiny-sdxl", {lora});
  SessionOptions with_half = session(kGolden / "tiny-sdxl", {{lora.path, 0.5}});
  std::set<std::string> records;
  for (SessionOptions* options : {&plain, &with_lora, &with_half}) {
    options->cache_dir = (folder_ / "cache").string();
    records.insert(calibrated(*device, *options));
    options->precision = Precision::kI8;
  }
  EXPECT_EQ(records.size(), 3U);
  std::set<std::string> plans;
  GenerateOptions generate;
  generate.prompt = "a cat";
  for (const SessionOptions* options : {&plain, &with_lora, &with_half}) {
    for (const PlanChoice& plan : Generator(*device, *options).dry_run(generate).plans) {
      if (plan.component == "unet") plans.insert(plan.fingerprint);
    }
  }
  EXPECT_EQ(plans.size(), 3U);
  // A named record of other LoRAs is refused, both ways.
  const auto refused = [&](const SessionOptions& options, const SessionOptions& other) {
    SessionOptions wrong = options;
    wrong.quantization.ranges =
        default_record(open_model(other.model, other.cache_dir, {}), other.cache_dir).string();
    try {
      const Generator generator(*device, wrong);
      static_cast<void>(generator.dry_run(generate));
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(refused(with_lora, plain).find("calibrated with no LoRA"), std::string::npos);
  EXPECT_NE(refused(plain, with_half).find("asked for no LoRA"), std::string::npos);
  EXPECT_NE(refused(with_half, with_lora).find("--lora"), std::string::npos);
  // Nothing with a LoRA is installed in the model's folder.
  QuantizeOptions install;
  install.session = with_lora;
  install.install = true;
  EXPECT_THROW(static_cast<void>(quantize(*device, install)), Error);
}

}  // namespace
}  // namespace halftone::workflow
