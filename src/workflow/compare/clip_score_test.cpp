// The CLIP score against transformers on a tiny random CLIPModel, and what its folder may not be.
#include "workflow/compare/clip_score.h"

#include <array>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "io/tensor_file.h"
#include "metrics/pattern.h"
#include "workflow/compare/clip_preprocess.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = HALFTONE_SOURCE_DIR "/tests/golden";

// A copy of the model's folder with its tokenizer, which tests may damage.
class ClipFolder : public ::testing::Test {
 protected:
  ClipFolder() {
    for (const char* name : {"config.json", "model.safetensors", "preprocessor_config.json"}) {
      fs::copy_file(kGolden / "clip-score" / name, folder_ / name);
    }
    for (const char* name : {"vocab.json", "merges.txt"}) {
      fs::copy_file(kGolden / "tokenizer" / "small" / name, folder_ / name);
    }
  }

  // `from` is written as `to` in one of its files.
  void edit(const std::string& file, const std::string& from, const std::string& to) const {
    std::string text = read_text_file(folder_ / file);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    write_file_atomically(folder_ / file, text);
  }

  // The weights in two files and an index, as transformers saves large models.
  void split() const {
    const io::TensorFile whole(folder_ / "model.safetensors");
    const std::array<std::string, 2> names = {"model-00001-of-00002.safetensors",
                                              "model-00002-of-00002.safetensors"};
    std::array<std::vector<io::NamedType>, 2> parts;
    Json map = Json::object();
    for (const auto& [name, shape] : whole.shapes()) {
      const size_t part = name.starts_with("text_model.encoder") ? 0 : 1;
      parts[part].push_back({name, {DType::kF32, shape}});
      map.set(name, names[part]);
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      io::SafetensorsWriter writer(folder_ / names[i], parts[i]);
      for (size_t t = 0; t < parts[i].size(); ++t) {
        const Tensor tensor = whole.read(parts[i][t].name);
        writer.write(t, 0, {tensor.data(), tensor.type().num_bytes()});
      }
      writer.commit();
    }
    const Json index = Json::object(
        {{"metadata", Json::object({{"total_size", 1}})}, {"weight_map", std::move(map)}});
    write_file_atomically(folder_ / "model.safetensors.index.json", to_text(index));
    fs::remove(folder_ / "model.safetensors");
  }

  [[nodiscard]] ClipScorer open() const { return {*device_, folder_, {}}; }

  // The error of opening, which names everything in `parts`.
  void expect_refused(Errc code, const std::vector<std::string>& parts) const {
    try {
      (void)open();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_EQ(exit_code(error.code()), 3);
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
      return;
    }
    ADD_FAILURE() << "was accepted";
  }

  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
  std::unique_ptr<backend::Device> device_ =
      backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
};

void expect_near(const std::vector<float>& got, const std::vector<double>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-4) << i;
}

TEST_F(ClipFolder, EqualsTransformers) {
  ClipScorer scorer = open();
  const std::string file = kGolden / "clip-score/golden.json";
  const std::string settings = kGolden / "clip-score/preprocessor_config.json";
  const Json golden = parse_json(read_text_file(file), file);
  const Json config = parse_json(read_text_file(settings), settings);
  const ClipPreprocessor preprocess(JsonView(config, settings), 36);
  int num_positive = 0, num_zero = 0;
  for (const JsonView& row : JsonView(golden, file).at("rows").items()) {
    const auto number = [&](const char* key) { return static_cast<int>(row.at(key).integer()); };
    const std::string prompt = row.at("prompt").string();
    SCOPED_TRACE(prompt);
    const metrics::Picture picture = metrics::make_pattern(
        number("width"), number("height"), number("noise"), static_cast<uint32_t>(number("seed")));
    const std::vector<uint8_t> crop = preprocess.crop(picture.view());
    EXPECT_EQ(to_hex(sha256(std::as_bytes(std::span(crop)))), row.at("crop_sha256").string());
    expect_near(scorer.embed(picture.view()), row.at("image").numbers());
    expect_near(scorer.embed(prompt), row.at("text").numbers());
    const double wanted = row.at("score").number();
    const double got = scorer.score(picture.view(), prompt);
    EXPECT_NEAR(got, wanted, 1e-4 * wanted);
    (wanted > 0 ? num_positive : num_zero) += 1;
  }
  EXPECT_EQ(num_positive, 5);
  EXPECT_EQ(num_zero, 2);
}

TEST_F(ClipFolder, WeightsMayBeInShards) {
  const metrics::Picture picture = metrics::make_pattern(64, 48, 12, 1);
  const std::string prompt = "a photo of a cat";
  const double whole = open().score(picture.view(), prompt);
  split();
  EXPECT_EQ(open().score(picture.view(), prompt), whole);
  fs::remove(folder_ / "model-00002-of-00002.safetensors");
  expect_refused(Errc::kNotFound, {"model-00002-of-00002.safetensors"});
}

TEST_F(ClipFolder, PreprocessingIsClipsWithoutItsFile) {
  fs::remove(folder_ / "preprocessor_config.json");
  ClipScorer scorer = open();
  const metrics::Picture picture = metrics::make_pattern(36, 36, 10, 1);
  EXPECT_EQ(scorer.embed(picture.view()).size(), 10U);
}

TEST_F(ClipFolder, RefusesConfigsThatDoNotFit) {
  edit("config.json", "\"projection_dim\": 10", "\"projection_dim\": 11");
  expect_refused(Errc::kCorruptFile,
                 {"config.json", "clip/visual_projection.weight", "[10,24]", "[11,24]"});
  edit("config.json", "\"projection_dim\": 11", "\"projection_dim\": 10");
  edit("config.json", "\"patch_size\": 8", "\"patch_size\": 37");
  expect_refused(Errc::kCorruptFile, {"config.json", "patch_size", "37"});
  edit("config.json", "\"patch_size\": 37", "\"patch_size\": 8");
  edit("config.json", "\"eos_token_id\": 2013", "\"eos_token_id\": 7");
  expect_refused(Errc::kCorruptFile, {"eos_token_id", "7", "2013", "tokenizer"});
  edit("config.json", "\"vision_config\"", "\"visionconfig\"");
  expect_refused(Errc::kCorruptFile, {"vision_config", "is missing"});
  edit("config.json", "\"CLIPModel\"", "\"CLIPTextModel\"");
  expect_refused(Errc::kUnsupported, {"config.json", "architectures", "CLIPTextModel"});
}

TEST_F(ClipFolder, RefusesOtherPreprocessing) {
  edit("preprocessor_config.json", "\"resample\": 3", "\"resample\": 2");
  expect_refused(Errc::kUnsupported, {"preprocessor_config.json", "resample", "2", "3"});
  edit("preprocessor_config.json", "\"resample\": 2", "\"resample\": 3");
  edit("preprocessor_config.json", "\"height\": 36", "\"height\": 32");
  expect_refused(Errc::kCorruptFile, {"preprocessor_config.json", "crop_size", "32", "36"});
}

TEST_F(ClipFolder, RefusesDamagedAndMissingFiles) {
  fs::resize_file(folder_ / "model.safetensors", 60000);
  expect_refused(Errc::kCorruptFile, {"model.safetensors"});
  fs::remove(folder_ / "model.safetensors");
  expect_refused(Errc::kNotFound, {"model.safetensors"});
  fs::remove(folder_ / "config.json");
  expect_refused(Errc::kNotFound, {"config.json", "CLIPModel"});
}

TEST_F(ClipFolder, NeedsItsTokenizer) {
  fs::remove(folder_ / "merges.txt");
  expect_refused(Errc::kNotFound, {"merges.txt"});
}

}  // namespace
}  // namespace halftone::workflow
