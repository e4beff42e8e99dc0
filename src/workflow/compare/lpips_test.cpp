// LPIPS against torch on narrow random networks, and what its files may not be.
#include "workflow/compare/lpips.h"

#include <filesystem>
#include <functional>
#include <limits>
#include <map>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "io/tensor_file.h"
#include "metrics/pattern.h"
#include "models/feature_net.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = HALFTONE_SOURCE_DIR "/tests/golden/lpips";
const fs::path kAlexNet = kGolden / "alexnet.pth", kAlexLinear = kGolden / "alex.pth",
               kVgg = kGolden / "vgg.safetensors";

using Tensors = std::map<std::string, Tensor>;

class Lpips : public ::testing::Test {
 protected:
  [[nodiscard]] LpipsScorer open(const std::vector<fs::path>& paths) const {
    return {*device_, paths, {}};
  }

  // `from` with what `edit` makes of its tensors, as safetensors.
  [[nodiscard]] fs::path edited(const fs::path& from, const std::function<void(Tensors&)>& edit) {
    const io::TensorFile file(from);
    Tensors tensors;
    for (const auto& [name, shape] : file.shapes()) tensors.emplace(name, file.read(name));
    edit(tensors);
    std::vector<io::NamedType> types;
    for (const auto& [name, tensor] : tensors) types.push_back({name, tensor.type()});
    fs::path path = folder_ / ("edited" + std::to_string(num_edited_++) + ".safetensors");
    io::SafetensorsWriter writer(path, types);
    size_t i = 0;
    for (const auto& [name, tensor] : tensors) {
      writer.write(i++, 0, {tensor.data(), tensor.type().num_bytes()});
    }
    writer.commit();
    return path;
  }

  // The error of opening, which names everything in `parts`.
  void expect_refused(const std::vector<fs::path>& paths, Errc code,
                      const std::vector<std::string>& parts) const {
    try {
      (void)open(paths);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << part << ": " << error.what();
      }
      return;
    }
    ADD_FAILURE() << "was accepted";
  }

  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
  std::unique_ptr<backend::Device> device_ =
      backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  int num_edited_ = 0;
};

Tensor zeros(Shape shape) { return Tensor::zeros({DType::kF32, std::move(shape)}); }

TEST_F(Lpips, EqualsTorch) {
  LpipsScorer alex = open({kAlexNet, kAlexLinear}), vgg = open({kVgg});
  const std::string file = kGolden / "golden.json";
  const Json golden = parse_json(read_text_file(file), file);
  int num_rows = 0;
  for (const JsonView& row : JsonView(golden, file).at("rows").items()) {
    const auto picture = [&](const char* which) {
      const std::vector<double> noise = row.at(which).numbers();
      return metrics::make_pattern(static_cast<int>(row.at("width").integer()),
                                   static_cast<int>(row.at("height").integer()),
                                   static_cast<int>(noise[0]), static_cast<uint32_t>(noise[1]));
    };
    LpipsScorer& scorer = row.at("network").string() == "alex" ? alex : vgg;
    EXPECT_EQ(scorer.network(), row.at("network").string());
    const metrics::Picture a = picture("a"), b = picture("b");
    const double wanted = row.at("distance").number();
    SCOPED_TRACE(wanted);
    const std::optional<double> got = scorer.distance(a.view(), b.view());
    ASSERT_TRUE(got.has_value());
    EXPECT_NEAR(*got, wanted, 1e-5 * wanted);
    EXPECT_NEAR(*scorer.distance(b.view(), a.view()), wanted, 1e-5 * wanted);
    ++num_rows;
  }
  EXPECT_EQ(num_rows, 10);
}

TEST_F(Lpips, SmallPicturesHaveNone) {
  LpipsScorer alex = open({kAlexNet, kAlexLinear}), vgg = open({kVgg});
  const auto distance = [](LpipsScorer& scorer, int width, int height) {
    return scorer.distance(metrics::make_pattern(width, height, 9, 1).view(),
                           metrics::make_pattern(width, height, 9, 2).view());
  };
  EXPECT_FALSE(distance(alex, 30, 64).has_value());
  EXPECT_TRUE(distance(alex, 31, 64).has_value());
  EXPECT_FALSE(distance(vgg, 64, 15).has_value());
  EXPECT_TRUE(distance(vgg, 64, 16).has_value());
}

TEST_F(Lpips, FilesMayLieInOneFolderAndBeOfAnyFormat) {
  const metrics::Picture a = metrics::make_pattern(64, 48, 10, 1),
                         b = metrics::make_pattern(64, 48, 60, 2);
  const double wanted = *open({kAlexNet, kAlexLinear}).distance(a.view(), b.view());
  const fs::path one = folder_ / "one";
  fs::create_directory(one);
  fs::copy_file(kAlexNet, one / "alexnet-owt-7be5be79.pth");
  fs::copy_file(kAlexLinear, one / "alex.pth");
  write_file_atomically(one / "README.md", "no weights");
  EXPECT_EQ(*open({one}).distance(a.view(), b.view()), wanted);
  const fs::path linear = edited(kAlexLinear, [](Tensors&) {});
  const fs::path renamed = edited(kAlexNet, [](Tensors& tensors) {
    Tensors with_prefix;
    for (auto& [name, tensor] : tensors) with_prefix["module." + name] = tensor.clone();
    tensors = std::move(with_prefix);
  });
  EXPECT_EQ(*open({linear, renamed}).distance(a.view(), b.view()), wanted);
}

TEST_F(Lpips, RefusesWhatIsMissing) {
  expect_refused({kAlexLinear}, Errc::kNotFound, {"alex.pth", "features.0.weight", "torchvision"});
  expect_refused({kAlexNet}, Errc::kCorruptFile, {"alexnet.pth", "lin0.model.1.weight"});
  expect_refused({folder_ / "absent.pth"}, Errc::kNotFound, {"absent.pth"});
  expect_refused({folder_}, Errc::kNotFound, {folder_.string(), ".safetensors"});
  const fs::path without = edited(kAlexNet, [](Tensors& t) { t.erase("features.6.bias"); });
  expect_refused({without, kAlexLinear}, Errc::kCorruptFile, {"edited0", "features.6.bias"});
}

TEST_F(Lpips, RefusesOtherShapes) {
  const auto refuse = [&](const fs::path& from, const std::string& name, Shape shape, Errc code,
                          const std::vector<std::string>& parts) {
    const fs::path path = edited(from, [&](Tensors& t) { t[name] = zeros(std::move(shape)); });
    expect_refused({path, from == kAlexNet ? kAlexLinear : kAlexNet}, code, parts);
  };
  refuse(kAlexNet, "features.3.weight", {10, 5, 5, 5}, Errc::kCorruptFile,
         {"edited0", "features.3.weight", "[10,5,5,5]", "[any,6,5,5]", "alex"});
  refuse(kAlexNet, "features.3.weight", {10, 6, 3, 3}, Errc::kCorruptFile, {"[any,6,5,5]"});
  refuse(kAlexNet, "features.3.weight", {10}, Errc::kCorruptFile, {"[10]"});
  refuse(kAlexNet, "features.3.bias", {9}, Errc::kCorruptFile, {"features.3.bias", "[9]", "[10]"});
  refuse(kAlexLinear, "lin1.model.1.weight", {1, 9, 1, 1}, Errc::kCorruptFile,
         {"lin1.model.1.weight", "[1,9,1,1]", "[1,10,1,1]"});
  refuse(kAlexNet, "features.0.weight", {6, 3, 7, 7}, Errc::kUnsupported, {"[6,3,7,7]", "AlexNet"});
  refuse(kAlexNet, "features.1.running_mean", {6}, Errc::kUnsupported,
         {"features.1.running_mean", "another network"});
}

TEST_F(Lpips, RefusesTwoNetworksAndOtherFiles) {
  expect_refused({kAlexNet, kVgg}, Errc::kInvalidArgument,
                 {"net.slice1.0", "alexnet.pth", "vgg.safetensors", "one network"});
  const fs::path page = folder_ / "page.pth";
  write_file_atomically(page, "<!DOCTYPE html><html>not found</html>");
  expect_refused({page}, Errc::kCorruptFile, {"page.pth", "not made by torch.save"});
  const fs::path list = kGolden / "../torch/act_sensitive.pt";
  expect_refused({list}, Errc::kCorruptFile, {"act_sensitive.pt", "no dict of tensors"});
  const fs::path cut = folder_ / "cut.safetensors";
  fs::copy_file(kVgg, cut);
  fs::resize_file(cut, 20000);
  expect_refused({cut}, Errc::kCorruptFile, {"cut.safetensors"});
}

TEST_F(Lpips, RefusesWeightsThatAreNotFinite) {
  const fs::path path = edited(kAlexNet, [](Tensors& t) {
    for (float& v : t.at("features.0.weight").values<float>())
      v = std::numeric_limits<float>::infinity();
  });
  LpipsScorer scorer = open({path, kAlexLinear});
  const metrics::Picture picture = metrics::make_pattern(64, 48, 10, 1);
  EXPECT_THROW((void)scorer.distance(picture.view(), picture.view()), Error);
}

}  // namespace
}  // namespace halftone::workflow
