// Whole pipelines against diffusers in fp32 on the tiny checkpoints (scripts/golden/README.md).
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "base/file.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "workflow/model.h"
#include "workflow/plans.h"

namespace halftone::workflow {
namespace {

constexpr double kMaxLatentError = 1e-3;  // relative L2, promised for 20 steps with guidance

double relative_l2(std::span<const float> got, std::span<const float> want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = double{got[i]} - double{want[i]};
    error += difference * difference;
    norm += double{want[i]} * double{want[i]};
  }
  return std::sqrt(error / norm);
}

class Golden {
 public:
  // Folders within the repository: the model, and its cases with their tensors.
  Golden(const std::string& model, const std::string& numbers)
      : folder_(std::string(HALFTONE_SOURCE_DIR) + "/" + model),
        device_(backend::cpu::create_cpu_device({.threads = 2, .disabled_features = {}})),
        model_(open_model(model_options(), "", {})),
        plans_(model_, *device_,
               {.precision = Precision::kF32,
                .vae_precision = Precision::kF32,
                .cache_dir = {},
                .plan = {},
                .logger = {}}),
        pipeline_({.device = device_.get(),
                   .plans =
                       [this](const pipeline::WantedPlan& wanted) {
                         return plans_.get(wanted.component, wanted.shape);
                       },
                   .facts = model_.facts,
                   .tokenizers = model_.tokenizers,
                   .logger = {}}),
        tensors_(std::string(HALFTONE_SOURCE_DIR) + "/" + numbers + "/pipelines.safetensors"),
        document_(
            read_cases(std::string(HALFTONE_SOURCE_DIR) + "/" + numbers + "/pipelines.json")) {}

  [[nodiscard]] std::vector<JsonView> cases() const {
    return JsonView(document_, "pipelines.json").at("cases").items();
  }

  // Runs a case and compares; false when it is of a kind that Halftone refuses or has no option
  // for.
  bool run(const JsonView& test) {
    const std::string name = test.at("name").string();
    if (test.has("guidance_rescale") || test.at("prompt").value().if_string() == nullptr)
      return false;
    pipeline::Request request;
    fill_text(test, request);
    fill_sizes(test, request);
    request.guidance = test.at("guidance_scale").number();
    const auto config = diffusion::choose_scheduler(test.at("scheduler"), {});
    request.schedule =
        diffusion::make_schedule(config, {.num_steps = test.at("steps").integer(),
                                          .strength = test.number_or("strength", 1.0),
                                          .timesteps = {},
                                          .sigmas = {}});
    const auto seed = static_cast<uint64_t>(test.integer_or("seed", 0));
    for (int64_t i = 0; i < test.integer_or("num_images_per_prompt", 1); ++i) {
      request.seeds.push_back(seed + static_cast<uint64_t>(i));
    }
    request.rng = Rng::kCpu;
    Tensor latents, init;
    if (tensors_.find(name + ".start_noise") != nullptr) {
      latents = tensor(name + ".start_noise");
      request.latents = &latents;
    }
    if (tensors_.find(name + ".init_image") != nullptr) {
      const Tensor bytes = tensor(name + ".init_image", DType::kU8);
      init = Tensor({DType::kF32, {1, bytes.shape()[-3], bytes.shape()[-2], 3}});
      std::transform(bytes.values<uint8_t>().begin(), bytes.values<uint8_t>().end(),
                     init.values<float>().begin(),
                     [](uint8_t v) { return static_cast<float>(v) / 255.0F; });
      request.init_image = &init;
    }
    compare(name, pipeline_.generate(request));
    return true;
  }

 private:
  [[nodiscard]] ModelOptions model_options() const {
    ModelOptions options;
    options.model = folder_;
    return options;
  }

  // DPM++'s default lambda_min_clipped is -Infinity.
  [[nodiscard]] static Json read_cases(const std::string& path) {
    return parse_json(read_text_file(path), path, {.python_numbers = true});
  }

  [[nodiscard]] Tensor tensor(const std::string& name, DType dtype = DType::kF32) const {
    const io::SafetensorsEntry* entry = tensors_.find(name);
    check_internal(entry != nullptr, "golden tensor exists");
    Tensor result({dtype, entry->shape});
    tensors_.read(*entry, 0, static_cast<uint64_t>(entry->shape.num_elements()), dtype,
                  result.data());
    return result;
  }

  static void fill_text(const JsonView& test, pipeline::Request& request) {
    request.prompt = test.at("prompt").string();
    request.prompt_2 = test.string_or("prompt_2", request.prompt);
    if (const auto negative = test.find("negative_prompt")) {
      request.negative_prompt = negative->string();
    }
    if (const auto negative = test.find("negative_prompt_2")) {
      request.negative_prompt_2 = negative->string();
    }
  }

  static std::array<float, 2> pair(const JsonView& test, const std::string& key,
                                   std::array<float, 2> fallback) {
    const auto found = test.find(key);
    if (!found) return fallback;
    const auto values = found->integers();
    return {static_cast<float>(values.at(0)), static_cast<float>(values.at(1))};
  }

  static void fill_sizes(const JsonView& test, pipeline::Request& request) {
    request.width = test.at("width").integer();
    request.height = test.at("height").integer();
    const std::array<float, 2> whole = {static_cast<float>(request.height),
                                        static_cast<float>(request.width)};
    request.size = {.original = pair(test, "original_size", whole),
                    .crop_top_left = pair(test, "crops_coords_top_left", {}),
                    .target = pair(test, "target_size", whole)};
    request.negative_size = request.size;
    if (test.has("negative_original_size")) {
      request.negative_size = {.original = pair(test, "negative_original_size", whole),
                               .crop_top_left = pair(test, "negative_crops_coords_top_left", {}),
                               .target = pair(test, "negative_target_size", whole)};
    }
  }

  void compare(const std::string& name, const pipeline::Result& result) const {
    const Tensor want = tensor(name + ".final_latents");
    ASSERT_EQ(to_string(result.latents.shape()), to_string(want.shape()));
    const double error = relative_l2(result.latents.values<float>(), want.values<float>());
    EXPECT_LE(error, kMaxLatentError);
    ::testing::Test::RecordProperty(name, fmt::format("{:.3e}", error));
    const Tensor image = tensor(name + ".image", DType::kU8);
    const auto pixels = image.values<uint8_t>();
    size_t i = 0;
    int worst = 0;
    for (const auto& rgb : result.rgb) {
      for (const uint8_t value : rgb)
        worst = std::max(worst, std::abs(int{value} - int{pixels[i++]}));
    }
    EXPECT_EQ(i, pixels.size());
    EXPECT_LE(worst, 1) << "largest difference of a pixel";
  }

  std::string folder_;
  std::unique_ptr<backend::Device> device_;
  Model model_;
  PlanMaker plans_;
  pipeline::Pipeline pipeline_;
  io::SafetensorsFile tensors_;
  Json document_;
};

void run_all(const std::string& model, const std::string& numbers, int at_least) {
  Golden golden(model, numbers);
  int compared = 0;
  for (const JsonView& test : golden.cases()) {
    SCOPED_TRACE(model + ": " + test.at("name").string());
    compared += golden.run(test) ? 1 : 0;
  }
  EXPECT_GE(compared, at_least);
}

TEST(GoldenPipeline, TinySdxl) {
  run_all("tests/golden/tiny-sdxl", "tests/golden/tiny-sdxl/golden", 20);
}
TEST(GoldenPipeline, TinySd15) {
  run_all("tests/golden/tiny-sd15", "tests/golden/tiny-sd15/golden", 12);
}
TEST(GoldenPipeline, EmojiXl) { run_all("models/emoji-xl", "tests/golden/emoji-xl", 1); }

}  // namespace
}  // namespace halftone::workflow
