#include "models/check_weights.h"

#include <map>

#include <gtest/gtest.h>

#include "base/file.h"
#include "models/registry.h"

namespace halftone::models {
namespace {

// Names and types, no data.
class Listing final : public WeightSource {
 public:
  std::map<std::string, TensorType> tensors;

  [[nodiscard]] bool contains(const std::string& name) const override {
    return tensors.contains(name);
  }
  [[nodiscard]] TensorType type(const std::string& name) const override { return tensors.at(name); }
  void read(const std::string& /*name*/, const TensorType& /*type*/,
            std::byte* /*dst*/) const override {
    FAIL() << "nothing may be read before all tensors are checked";
  }
};

class CheckWeights : public testing::Test {
 protected:
  CheckWeights() : config_(parse_json(read_text_file(kFile), kFile)) {
    for (const std::string part : {"vae_decoder", "vae_encoder"}) {
      const graph::Graph graph = build(part, "AutoencoderKL", JsonView(config_, "vae/config.json"),
                                       {.height = 2, .width = 2}, {});
      for (const graph::Value& value : graph.values()) {
        if (value.constant) {
          listing_.tensors[value.constant->weight] = {DType::kF16, value.type.shape};
        }
      }
    }
  }

  // The message, or nothing when all fits.
  std::string check() {
    std::vector<std::string> names;
    for (const auto& [name, type] : listing_.tensors) names.push_back(name.substr(4));
    try {
      check_weights("vae", "AutoencoderKL", JsonView(config_, "vae/config.json"), listing_, names);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile);
      return error.what();
    }
    return "";
  }

  static constexpr const char* kFile =
      HALFTONE_SOURCE_DIR "/tests/golden/tiny-sdxl/vae/config.json";
  Json config_;
  Listing listing_;
};

TEST_F(CheckWeights, AcceptsWhatTheConfigCallsFor) { EXPECT_EQ(check(), ""); }

TEST_F(CheckWeights, ListsAllProblemsAtOnce) {
  listing_.tensors.erase("vae/quant_conv.bias");
  listing_.tensors["vae/decoder.conv_in.bias"].shape = {3};
  listing_.tensors["vae/encoder.conv_in.bias"].dtype = DType::kI64;
  listing_.tensors["vae/loss.logvar"] = {DType::kF32, {1}};
  EXPECT_EQ(check(),
            "vae/config.json: 4 tensors of 'vae' do not fit the config: "
            "vae/decoder.conv_in.bias is f16[3], wanted floating-point [16]; "
            "vae/encoder.conv_in.bias is i64[8], wanted floating-point [8]; "
            "vae/quant_conv.bias is missing, wanted [8]; vae/loss.logvar is not expected");
}

TEST_F(CheckWeights, CountsTheRest) {
  for (int i = 0; i < 30; ++i) {
    listing_.tensors["vae/extra." + std::to_string(i)] = {DType::kF32, {1}};
  }
  const std::string message = check();
  EXPECT_NE(message.find("30 tensors"), std::string::npos) << message;
  EXPECT_TRUE(message.ends_with("; ...")) << message;
}

}  // namespace
}  // namespace halftone::models
