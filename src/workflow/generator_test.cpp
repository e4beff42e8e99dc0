// Behaviour of whole runs that needs no reference numbers: shapes, cancellation, batches.
#include "workflow/generator.h"

#include <cmath>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "workflow/image_metadata.h"

namespace halftone::workflow {
namespace {

class GeneratorTest : public ::testing::Test {
 protected:
  Generator make(ProgressCallback progress = {}) {
    SessionOptions options;
    options.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
    options.precision = Precision::kF32;
    options.progress = std::move(progress);
    return {*device_, std::move(options)};
  }

  static GenerateOptions options(int width, int height) {
    GenerateOptions result;
    result.prompt = "a cat";
    result.width = width;
    result.height = height;
    result.steps = 2;
    result.seed = 5;
    return result;
  }

  static std::vector<Image> run(Generator& generator, const GenerateOptions& options,
                                GenerateReport* report = nullptr) {
    std::vector<Image> images;
    GenerateReport result =
        generator.generate(options, [&](Image&& image) { images.push_back(std::move(image)); });
    if (report != nullptr) *report = std::move(result);
    return images;
  }

  std::unique_ptr<backend::Device> device_ =
      backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
};

TEST_F(GeneratorTest, NewSizesShareWeightsAndOldOnesComeBackEqual) {
  Generator generator = make();
  GenerateReport first, last;
  const auto before = run(generator, options(64, 64), &first);
  for (const int width : {96, 128, 160}) run(generator, options(width, 64), &last);
  EXPECT_EQ(last.memory.static_bytes, first.memory.static_bytes);
  // 9 latent columns come from 5, and these from 3: not enlarged by exactly 2, such convolutions
  // keep the form that subpixel_upsample rewrites elsewhere, and their weights are there once more.
  GenerateReport odd;
  run(generator, options(72, 64), &odd);
  EXPECT_GT(odd.memory.static_bytes, first.memory.static_bytes);
  for (const int width : {48, 88, 104}) run(generator, options(width, 64), &last);
  EXPECT_EQ(last.memory.static_bytes, odd.memory.static_bytes);
  const auto after = run(generator, options(64, 64));
  EXPECT_EQ(before.front().rgb, after.front().rgb);
}

TEST_F(GeneratorTest, CancelsWithinOneStepAndCanBeUsedAgain) {
  bool stop = true;
  int steps_seen = 0;
  Generator generator = make([&](const Progress& progress) {
    if (progress.stage != "denoise") return true;
    steps_seen = progress.done;
    return !(stop && progress.done == 1);
  });
  GenerateOptions wanted = options(48, 64);
  wanted.steps = 10;
  try {
    run(generator, wanted);
    FAIL() << "was not cancelled";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kCancelled);
  }
  EXPECT_EQ(steps_seen, 1);
  stop = false;
  EXPECT_EQ(run(generator, wanted).size(), 1U);
}

TEST_F(GeneratorTest, BatchDenoisedTogetherIsTheSameImages) {
  Generator generator = make();
  GenerateOptions together = options(48, 64);
  together.batch_size = 2;
  together.batch_count = 2;
  GenerateReport report;
  const auto images = run(generator, together, &report);
  EXPECT_EQ(report.seeds, (std::vector<uint64_t>{5, 6, 7, 8}));
  ASSERT_EQ(images.size(), 4U);
  GenerateOptions alone = options(48, 64);
  alone.seed = 8;
  const auto single = run(generator, alone);
  int worst = 0;
  for (size_t i = 0; i < single.front().rgb.size(); ++i) {
    worst = std::max(worst, std::abs(int{images[3].rgb[i]} - int{single.front().rgb[i]}));
  }
  EXPECT_LE(worst, 1);  // kernels may differ with the batch size
}

TEST_F(GeneratorTest, WhatDoesNotFitIsRefusedByName) {
  Generator generator = make();
  const auto refused = [&](auto change, std::string_view part) {
    GenerateOptions wanted = options(48, 64);
    change(wanted);
    try {
      static_cast<void>(generator.dry_run(wanted));
      FAIL() << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kInvalidArgument) << error.what();
      EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
    }
  };
  refused([](GenerateOptions& o) { o.width = 50; }, "width");
  refused([](GenerateOptions& o) { o.steps = -1; }, "steps");
  refused([](GenerateOptions& o) { o.batch_size = 0; }, "batch");
  refused([](GenerateOptions& o) { o.scheduler = "nonesuch"; }, "nonesuch");
  refused([](GenerateOptions& o) { o.flow_shift = 3; }, "flow-shift");
  refused([](GenerateOptions& o) { o.strength = 0.5; }, "strength");
  refused([](GenerateOptions& o) { o.guidance = std::nan(""); }, "guidance");
}

TEST(Metadata, ParametersFollowTheGrammar) {
  ResolvedRequest request;
  request.prompt = "a cat, \"quoted\"\nsecond line";
  request.has_negative_prompt = true;
  request.negative_prompt = "dog";
  request.model = "/models/odd, name: 2";
  request.scheduler = "euler-a";
  request.sigma_schedule = "karras";
  request.steps = 20;
  request.guidance = 7.5;
  request.width = 512;
  request.height = 768;
  request.rng = "cpu";
  EXPECT_EQ(parameters_text(request, 42, "0123456789abcdef"),
            "a cat, \"quoted\"\nsecond line\nNegative prompt: dog\n"
            "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5, Seed: 42, "
            "Size: 512x768, Model hash: 0123456789, Model: \"odd, name: 2\", RNG: CPU, "
            "Version: halftone " HALFTONE_VERSION);
}

}  // namespace
}  // namespace halftone::workflow
