// Malformed recipes, calibration records, bit tables and lists of layers: a table of cases, each a
// valid document with one thing wrong. Every one is kCorruptFile, begins with the file's name and
// says what was wrong.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "graph/ops/reduce.h"
#include "io/safetensors.h"
#include "quant/imports/mixdq.h"
#include "quant/recipe.h"
#include "quant/record.h"
#include "quant/schemes/scheme.h"

namespace halftone::quant {
namespace {

namespace fs = std::filesystem;

void expect_refused(const std::string& file, const std::string& wanted,
                    const std::function<void()>& load) {
  try {
    load();
    ADD_FAILURE() << "accepted; wanted: " << wanted;
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), Errc::kCorruptFile) << text;
    EXPECT_EQ(text.rfind(file, 0), 0U) << text;
    EXPECT_NE(text.find(wanted), std::string::npos) << "got: " << text << "\nwanted: " << wanted;
    EXPECT_LT(text.size(), 1000U);
  }
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  check_internal(at != std::string::npos, "the valid document holds it");
  return text.replace(at, from.size(), to);
}

// --- recipes

constexpr std::string_view kRecipe = R"({
 "halftone_recipe": 1, "scheme": "int8", "level": 3, "alpha": 0.8, "collect_method": "min-mean",
 "percentile": 1.0, "calib_compat": "none", "split_shortcut": true, "bos_aware": true,
 "rules": [
  {"pattern": "to_q$", "kind": "linear",
   "weight": {"dtype": "i8", "bits": 8, "granularity": "per_channel"},
   "activation": {"dtype": "i8", "bits": 8, "granularity": "per_tensor", "dynamic": false,
                  "symmetric": true},
   "smooth_alpha": 0.8, "input_amax": 3.5, "input_low": -1, "input_high": 2, "why": "w"},
  {"pattern": ".", "kind": "attention",
   "attention": {"qk": {"dtype": "i8", "granularity": "per_token", "dynamic": true},
                 "v": {"dtype": "f8e4m3", "dynamic": true}, "center_keys": true, "only_self": true,
                 "min_tokens": 5}}]
})";

struct Case {
  std::string name, from, to, wanted;
};

TEST(Hardening, RecipesWithOneThingWrong) {
  ASSERT_NO_THROW((void)parse_recipe(kRecipe, "r.json"));
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  const std::vector<Case> cases{
      {"version", "\"halftone_recipe\": 1", "\"halftone_recipe\": 2", "reads version 1"},
      {"version as a float", "\"halftone_recipe\": 1", "\"halftone_recipe\": 1.0",
       "halftone_recipe"},
      {"no version", "\"halftone_recipe\": 1, ", "", "halftone_recipe"},
      {"misspelt key", "\"calib_compat\"", "\"calib_compatt\"", "did you mean 'calib_compat'?"},
      {"misspelt key of a rule", "\"weight\"", "\"weigth\"", "did you mean 'weight'?"},
      {"misspelt key of a spec", "\"granularity\"", "\"granularty\"",
       "did you mean 'granularity'?"},
      {"misspelt key of an attention", "\"center_keys\"", "\"centre_keys\"",
       "did you mean 'center_keys'?"},
      {"unknown key", "\"why\"", "\"because\"", "is not known in a recipe"},
      {"duplicate key", "\"level\": 3", "\"level\": 3, \"level\": 2", "duplicate key 'level'"},
      {"duplicate by escape", "\"level\": 3", "\"level\": 3, \"le\\u0076el\": 2", "duplicate key"},
      {"level a string", "\"level\": 3", "\"level\": \"3\"", "level"},
      {"alpha not finite", "\"alpha\": 0.8", "\"alpha\": 1e999", "r.json"},
      {"alpha NaN", "\"alpha\": 0.8", "\"alpha\": NaN", "invalid JSON"},
      {"percentile 0", "\"percentile\": 1.0", "\"percentile\": 0", "share of steps"},
      {"percentile 2", "\"percentile\": 1.0", "\"percentile\": 2", "share of steps"},
      {"method", "\"min-mean\"", "\"min-meen\"", "min-mean, min-max"},
      {"compat", "\"none\"", "\"trt11\"", "trt9, trt10"},
      {"scheme with a path", "\"scheme\": \"int8\"", "\"scheme\": \"../x\"", "scheme"},
      {"split_shortcut a number", "\"split_shortcut\": true", "\"split_shortcut\": 1",
       "split_shortcut"},
      {"bos_aware a text", "\"bos_aware\": true", "\"bos_aware\": \"yes\"", "bos_aware"},
      {"min_tokens below 0", "\"min_tokens\": 5", "\"min_tokens\": -5", "min_tokens"},
      {"only_self a text", "\"only_self\": true", "\"only_self\": \"yes\"", "only_self"},
      {"rules an object", "\"rules\": [", "\"rules\": {}, \"x\": [", "r.json"},
      {"pattern", "\"to_q$\"", "\"to_(q$\"", "pattern"},
      {"pattern with a lookahead", "\"to_q$\"", "\"(?=a)b\"", "pattern"},
      {"pattern too large", "\"to_q$\"", "\"(a{900}){900}\"", "pattern"},
      {"pattern nested deeply", "\"to_q$\"", "\"" + std::string(5000, '(') + "\"", "pattern"},
      {"kind", "\"linear\"", "\"linaer\"", "wanted \"any\""},
      {"dtype", "\"dtype\": \"i8\"", "\"dtype\": \"i16\"", "wanted \"i8\" or \"f8e4m3\""},
      {"bits 3", "\"bits\": 8", "\"bits\": 3", "wanted 2, 4 or 8"},
      {"bits a float", "\"bits\": 8", "\"bits\": 8.0", "bits"},
      {"granularity", "\"per_channel\"", "\"per_row\"", "granularity"},
      {"negative amax", "3.5", "-3.5", "is negative"},
      {"amax beyond floats", "3.5", "1e39", "1e30"},
      {"low above high", "\"input_low\": -1", "\"input_low\": 5", "low first"},
      {"low without high", ", \"input_high\": 2", "", "go together"},
      {"smooth_alpha", "\"smooth_alpha\": 0.8", "\"smooth_alpha\": -0.1", "wanted 0 to 1"},
      {"attention of 4 bits", "\"qk\": {\"dtype\": \"i8\"",
       "\"qk\": {\"dtype\": \"i8\", \"bits\": 4", "8 bits"},
      {"attention's v in int8", "\"v\": {\"dtype\": \"f8e4m3\"", "\"v\": {\"dtype\": \"i8\"",
       "f8e4m3"},
      {"attention without v", "\"v\":", "\"vv\":", "r.json"},
      {"not closed", "}}]\n}", "}}]", "invalid JSON"},
      {"more behind it", "}}]\n}", "}}]\n}}", "invalid JSON"},
      {"a comment", "\"level\": 3,", "\"level\": 3, // three", "invalid JSON"},
      {"not UTF-8", "\"why\": \"w\"", "\"why\": \"\xff\xfe\"", "r.json"},
      {"NUL", "\"why\": \"w\"", "\"why\": \"\\u0000\"", "NUL"},
      {"deep", "\"level\": 3", "\"level\": " + deep, "nested deeper"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const std::string text = replaced(std::string(kRecipe), c.from, c.to);
    expect_refused("r.json", c.wanted, [&] { (void)parse_recipe(text, "r.json"); });
  }
}

TEST(Hardening, RecipesCutAnywhereOrTooLarge) {
  for (size_t size = 0; size < kRecipe.size(); ++size) {
    EXPECT_THROW((void)parse_recipe(kRecipe.substr(0, size), "r.json"), Error) << size;
  }
  std::string many = R"({"halftone_recipe":1,"scheme":"x","rules":[{"pattern":"a"})";
  for (int i = 0; i < 20'000; ++i) many += R"(,{"pattern":"a"})";
  many += "]}";
  expect_refused("r.json", "at most 20000", [&] { (void)parse_recipe(many, "r.json"); });
  std::string heavy = R"({"halftone_recipe":1,"scheme":"x","rules":[{"pattern":"a"})";
  for (int i = 0; i < 300; ++i) heavy += R"(,{"pattern":"(a{60}){60}"})";
  heavy += "]}";
  expect_refused("r.json", "together are too large", [&] { (void)parse_recipe(heavy, "r.json"); });
  std::string large(kRecipe);
  large.append(size_t{17} << 20, ' ');
  expect_refused("r.json", "", [&] { (void)parse_recipe(large, "r.json"); });
}

// --- calibration records

class RecordHardening : public ::testing::Test {
 protected:
  void SetUp() override {
    CalibrationRecord record;
    record.key = {{"model", "abc"}};
    record.num_steps = 2;
    record.samples = 1;
    record.layers = {{"a", "a"}, {"b", "a"}};
    record.values["a"] = {.channels = 3,
                          .sum = {1, 2},
                          .max = {1, 2},
                          .min = {1, 2},
                          .calls = {1, 1},
                          .low = -2,
                          .high = 1,
                          .ema_low = -2,
                          .ema_high = 1,
                          .column_amax = {1, 2, 0},
                          .histogram = std::vector<int64_t>(graph::kHistogramBins, 1)};
    save(record, file());
    const io::SafetensorsFile valid(file());
    metadata_ = valid.header().metadata;
    for (const io::SafetensorsEntry& entry : valid.header().tensors) {
      Tensor tensor(entry.type("valid"));
      valid.read(entry, 0, static_cast<uint64_t>(tensor.shape().num_elements()),
                 tensor.type().dtype, tensor.data());
      tensors_.emplace(entry.name, std::move(tensor));
    }
  }

  [[nodiscard]] fs::path file() const { return folder_ / "record.safetensors"; }

  void write() const {
    std::vector<io::NamedType> types;
    for (const auto& [name, tensor] : tensors_) types.push_back({name, tensor.type()});
    io::SafetensorsWriter writer(file(), types, metadata_);
    for (size_t i = 0; i < writer.tensors().size(); ++i) {
      const Tensor& tensor = tensors_.at(writer.tensors()[i].name);
      writer.write(i, 0, {tensor.data(), tensor.type().num_bytes()});
    }
    writer.commit();
  }

  void expect_damage(const std::string& wanted) const {
    write();
    expect_refused(file().string(), wanted, [&] { (void)load_record(file()); });
  }

  template <class T>
  void damage(const std::string& name, size_t index, T value, const std::string& wanted) {
    SCOPED_TRACE(name + " " + wanted);
    T& element = tensors_.at(name).values<T>()[index];
    const T before = std::exchange(element, value);
    expect_damage(wanted);
    tensors_.at(name).values<T>()[index] = before;
  }

  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(RecordHardening, TextWithOneThingWrong) {
  write();
  ASSERT_NO_THROW((void)load_record(file()));
  const std::vector<Case> cases{
      {"version", "\"version\":1", "\"version\":9", "calibrate again"},
      {"no steps", "\"num_steps\":2", "\"num_steps\":0", "num_steps"},
      {"other steps", "\"num_steps\":2", "\"num_steps\":3", "3 steps"},
      {"steps beyond all", "\"num_steps\":2", "\"num_steps\":1000000000", "num_steps"},
      {"negative samples", "\"samples\":1", "\"samples\":-1", "samples"},
      {"key not of strings", "\"model\":\"abc\"", "\"model\":7", "model"},
      {"channels 0", "\"channels\":3", "\"channels\":0", "channels"},
      {"other channels", "\"channels\":3", "\"channels\":4", "wanted f32[4]"},
      {"channels beyond all", "\"channels\":3", "\"channels\":9007199254740992", "channels"},
      {"low beyond floats", "\"low\":-2.0", "\"low\":-1e39", "low"},
      {"low above high", "\"low\":-2.0", "\"low\":2", "impossible"},
      {"averages crossed", "\"ema_low\":-2.0", "\"ema_low\":2", "impossible"},
      {"low missing", "\"low\":-2.0,", "", "low"},
      {"low null", "\"low\":-2.0", "\"low\":null", "low"},
      {"misspelt key", "\"samples\"", "\"sampels\"", "did you mean 'samples'?"},
      {"misspelt key of a value", "\"ema_low\"", "\"ema_loww\"", "did you mean 'ema_low'?"},
      {"layer of no value", "\"b\":\"a\"", "\"b\":\"c\"", "unknown value 'c'"},
      {"value without tensors", "\"values\":{",
       "\"values\":{\"z\":{\"channels\":1,\"low\":0,"
       "\"high\":0,\"ema_low\":0,\"ema_high\":0},",
       "value 'z'"},
      {"not JSON", "{\"version\"", "{version", "invalid JSON"},
  };
  const std::string valid = metadata_.at(0).second;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    metadata_[0].second = replaced(valid, c.from, c.to);
    expect_damage(c.wanted);
  }
  metadata_[0] = {"halftone.something", valid};
  expect_damage("is no calibration record");
}

TEST_F(RecordHardening, NumbersWithOneThingWrong) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {-1.0F, kNan, kInfinity}) {
    damage("a/columns", 1, bad, "negative or not finite");
    damage("a/steps", 3, bad, "negative or not finite");
  }
  damage<int64_t>("a/calls", 1, -1, "impossible counts");
  damage<int64_t>("a/histogram", 7, -1, "impossible counts");
}

TEST_F(RecordHardening, TensorsThatAreNotThose) {
  auto columns = tensors_.extract("a/columns");
  expect_damage("'a/columns' is missing");
  tensors_.emplace("a/columns", Tensor::zeros({DType::kF32, {5}}));
  expect_damage("wanted f32[3]");
  tensors_.erase("a/columns");
  tensors_.emplace("a/columns", Tensor::zeros({DType::kF16, {3}}));
  expect_damage("wanted f32[3]");
  tensors_.erase("a/columns");
  tensors_.insert(std::move(columns));
  tensors_.emplace("other", Tensor::zeros({DType::kF32, {1}}));
  expect_damage("belongs to no value");
  tensors_.erase("other");
  tensors_.emplace("a/more", Tensor::zeros({DType::kF32, {1}}));
  expect_damage("4 a value");
}

TEST_F(RecordHardening, CutAnywhereOrFlipped) {
  write();
  const std::string whole = read_text_file(file());
  for (size_t size = 0; size < whole.size(); size += 1 + size / 8) {
    write_file_atomically(file(), whole.substr(0, size));
    expect_refused(file().string(), "", [&] { (void)load_record(file()); });
  }
  const CalibrationRecord valid = [&] {
    write_file_atomically(file(), whole);
    return load_record(file());
  }();
  // A flipped bit is an error or a record that still makes sense.
  for (size_t at = 0; at < whole.size(); at += 1 + at / 4) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    write_file_atomically(file(), flipped);
    try {
      const CalibrationRecord record = load_record(file());
      EXPECT_FALSE(record == valid && flipped != whole) << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile) << error.what();
    }
  }
}

TEST_F(RecordHardening, NothingHalfWrittenStays) {
  // A record that cannot be written leaves the old one as it was, and no other file.
  write();
  const std::string before = read_text_file(file());
  CalibrationRecord record = load_record(file());
  record.values.at("a").column_amax.resize(2);  // does not fit its channels
  EXPECT_ANY_THROW(save(record, file()));
  EXPECT_EQ(read_text_file(file()), before);
  EXPECT_EQ(list_folder(folder_).size(), 1U);
}

// --- MixDQ's tables and OneDiff's lists

TEST(Hardening, BitTables) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "is empty"},
      {std::string(1 << 20, '\n'), "is empty"},
      {"a: 8\na: 4", "line 2: 'a' comes twice"},
      {"a: 8\nmodel.a: 4", "line 2: 'a' comes twice"},
      {"a: 3", "line 1: got '3' bits"},
      {"a: 16", "got '16' bits"},
      {"a: 0x8", "got '0x8' bits"},
      {"a: -8", "got '-8' bits"},
      {"a: nan", "got 'nan' bits"},
      {"a: {x: 8}", "bits"},
      {"a:\n  b: 8", "bits"},
      {"? a\n: 8", "line 1"},
      {"&x a: 8", "no layer's name"},
      {"*x: 8", "no layer's name"},
      {"!!python/object:os.system a: 8", "line 1"},
      {"'a': 8", "no layer's name"},
      {"\xEF\xBB\xBF"
       "a: 8",
       "no layer's name"},
      {"a\t: 8", "no layer's name"},
      {std::string("a\0b: 8", 6), "no layer's name"},
      {std::string(300, 'a') + ": 8", "no layer's name"},
      {"a: 8\n---\nb: 8", "line 2"},
      {"../../etc/passwd: 8", "no layer's name"},
  };
  for (const auto& [text, wanted] : cases) {
    SCOPED_TRACE(text.substr(0, 40));
    expect_refused("w.yaml", wanted, [&] { (void)parse_bit_table(text, "w.yaml"); });
  }
  std::string many;
  for (int i = 0; i < 100'001; ++i) many += "l" + std::to_string(i) + ": 8\n";
  expect_refused("w.yaml", "too many", [&] { (void)parse_bit_table(many, "w.yaml"); });
}

TEST(Hardening, ListsOfLayers) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "invalid JSON"},
      {"[]", "object"},
      {R"({"a": 1})", "'a'"},
      {R"({"a": {}})", "ssim"},
      {R"({"a": {"ssim": "1"}})", "ssim"},
      {R"({"a": {"ssim": 1e999}})", "l.json"},
      {R"({"a": {"ssim": NaN}})", "invalid JSON"},
      {R"({"a": {"ssim": 1.5}})", "wanted -1 to 1"},
      {R"({"a": {"ssim": 1}, "a": {"ssim": 0}})", "duplicate key 'a'"},
      {R"({"a": {"ssim": 1})", "invalid JSON"},
      {std::string(100'000, '['), "nested deeper"},
  };
  for (const auto& [text, wanted] : cases) {
    SCOPED_TRACE(text.substr(0, 40));
    expect_refused("l.json", wanted, [&] { (void)parse_onediff_layers(text, "l.json", 90); });
  }
}

}  // namespace
}  // namespace halftone::quant
