#include "io/random_model.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/folder.h"
#include "io/checkpoint.h"
#include "io/diffusers_tensors.h"
#include "io/released_configs.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

int64_t count_parameters(std::string_view family, const char* component) {
  const Json config = *released_config(family, component);
  int64_t n = 0;
  for (const WeightSpec& spec : diffusers_tensors(component, JsonView(config, component))) {
    n += spec.shape.num_elements();
  }
  return n;
}

// The published parameter counts.
TEST(DiffusersTensorsTest, CountsOfTheReleasedModels) {
  EXPECT_EQ(count_parameters("sdxl", "unet"), 2'567'463'684);
  EXPECT_EQ(count_parameters("sdxl-turbo", "unet"), 2'567'463'684);
  EXPECT_EQ(count_parameters("sd15", "unet"), 859'520'964);
  EXPECT_EQ(count_parameters("sdxl", "vae"), 83'653'863);
  EXPECT_EQ(count_parameters("sd15", "text_encoder"), 123'060'480);
  EXPECT_EQ(count_parameters("sdxl", "text_encoder_2"), 694'659'840);
}

// Every name and shape of checkpoints that diffusers wrote.
TEST(DiffusersTensorsTest, EqualsWhatDiffusersWrites) {
  for (const char* name : {"tiny-sdxl", "tiny-sd15"}) {
    const auto model =
        Checkpoint::open((fs::path(HALFTONE_SOURCE_DIR) / "tests/golden" / name).string());
    for (const ComponentInfo& component : model->components()) {
      const auto specs = diffusers_tensors(component.name, model->config(component.name));
      EXPECT_EQ(specs.size(), component.num_tensors) << component.name;
      for (const WeightSpec& spec : specs) {
        const std::string full = component.name + "/" + spec.name;
        ASSERT_TRUE(model->contains(full)) << full;
        EXPECT_EQ(model->type(full).shape, spec.shape) << full;
      }
    }
  }
}

const fs::path kSmallVocab = fs::path(HALFTONE_SOURCE_DIR) / "tests/golden/tokenizer/small";

class RandomModelTest : public ::testing::Test {
 protected:
  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
};

std::string unet_bytes(const fs::path& model) {
  return read_text_file(model / "unet" / "diffusion_pytorch_model.safetensors");
}

TEST_F(RandomModelTest, WritesOpenableModelsReproducibly) {
  for (const char* family : {"sdxl", "sdxl-turbo", "sd15"}) {
    RandomModelOptions options{
        .family = family, .tiny = true, .seed = 3, .clip_vocab = kSmallVocab, .num_threads = 1};
    const fs::path one = folder_ / (std::string(family) + "-1");
    write_random_model(options, one);
    options.num_threads = 5;
    const fs::path five = folder_ / (std::string(family) + "-5");
    write_random_model(options, five);
    const auto model = Checkpoint::open(one.string());
    EXPECT_EQ(model->family(), std::string(family) == "sd15" ? "sd15" : "sdxl");
    EXPECT_EQ(unet_bytes(one), unet_bytes(five));
    options.seed = 4;
    const fs::path other = folder_ / (std::string(family) + "-other");
    write_random_model(options, other);
    EXPECT_NE(unet_bytes(one), unet_bytes(other));
    EXPECT_EQ(model->structure_hash(), Checkpoint::open(other.string())->structure_hash());
    EXPECT_EQ(model->tokenizer("tokenizer").vocab_json, read_text_file(kSmallVocab / "vocab.json"));
  }
}

TEST_F(RandomModelTest, MakesUpAVocabularyOfClipsSize) {
  write_random_model({.family = "sd15", .tiny = true}, folder_ / "m");
  const auto model = Checkpoint::open((folder_ / "m").string());
  const Json vocab = parse_json(model->tokenizer("tokenizer").vocab_json, "vocab.json");
  ASSERT_EQ(vocab.if_object()->size(), 49408U);
  EXPECT_EQ(vocab.find("!")->if_integer(), 0);
  EXPECT_EQ(vocab.find("!\"</w>")->if_integer(), 513);
  EXPECT_EQ(vocab.find("<|endoftext|>")->if_integer(), 49407);
  EXPECT_EQ(std::ranges::count(model->tokenizer("tokenizer").merges_txt, '\n'), 48895);
}

TEST_F(RandomModelTest, ValuesHaveTheStatedDistribution) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    const fs::path path = folder_ / std::string(to_string(dtype));
    write_random_model({.family = "sd15", .tiny = true, .dtype = dtype, .clip_vocab = kSmallVocab},
                       path);
    const auto model = Checkpoint::open(path.string());
    const std::string name = "unet/up_blocks.0.resnets.0.conv1.weight";
    const TensorType type{DType::kF32, model->type(name).shape};
    EXPECT_EQ(model->type(name).dtype, dtype);
    std::vector<float> values(static_cast<size_t>(type.shape.num_elements()));
    model->read(name, type, std::as_writable_bytes(std::span(values)).data());
    double sum = 0;
    double squares = 0;
    for (const float v : values) {
      sum += static_cast<double>(v);
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    const auto n = static_cast<double>(values.size());
    const double deviation = 1 / std::sqrt(128.0 * 9);  // 64 channels and 64 of the skip, 3x3
    EXPECT_NEAR(sum / n, 0, 5 * deviation / std::sqrt(n));
    EXPECT_NEAR(std::sqrt(squares / n), deviation, 0.02 * deviation);
    std::vector<float> ones(64);
    model->read("unet/up_blocks.0.resnets.0.norm2.weight", {DType::kF32, Shape({64})},
                std::as_writable_bytes(std::span(ones)).data());
    EXPECT_EQ(ones, std::vector<float>(64, 1.0F));
  }
}

TEST_F(RandomModelTest, CancellationAndRefusalLeaveNothing) {
  const auto code_of = [&](const RandomModelOptions& options, const fs::path& path,
                           const ProgressCallback& progress) {
    try {
      write_random_model(options, path, progress);
    } catch (const Error& e) {
      return e.code();
    }
    return Errc::kInternal;
  };
  const RandomModelOptions tiny{.family = "sd15", .tiny = true};
  int calls = 0;
  EXPECT_EQ(code_of(tiny, folder_ / "m", [&](const Progress&) { return ++calls < 3; }),
            Errc::kCancelled);
  EXPECT_TRUE(fs::is_empty(folder_));
  EXPECT_EQ(code_of({.family = "flux", .tiny = true}, folder_ / "m", {}), Errc::kInvalidArgument);
  EXPECT_EQ(code_of({.family = "sd15", .tiny = true, .dtype = DType::kI8}, folder_ / "m", {}),
            Errc::kInvalidArgument);
  EXPECT_TRUE(fs::is_empty(folder_));
  fs::create_directory(folder_ / "full");
  fs::create_directory(folder_ / "full" / "precious");
  EXPECT_EQ(code_of(tiny, folder_ / "full", {}), Errc::kInvalidArgument);
  EXPECT_TRUE(fs::exists(folder_ / "full" / "precious"));
}

}  // namespace
}  // namespace halftone::io
