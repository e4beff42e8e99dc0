// Dumps of what a denoiser was given: the record made from one equals that of the run, and what is
// damaged or of something else is refused by name.
#include "workflow/calibration_dump.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "quant/record.h"
#include "workflow/calibrate.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

class CalibrationDumps : public ::testing::Test {
 protected:
  [[nodiscard]] CalibrateOptions options(const std::string& record) const {
    CalibrateOptions result;
    result.session.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
    result.session.precision = Precision::kF32;
    result.record = (folder_ / record).string();
    return result;
  }
  [[nodiscard]] std::string dump() const { return (folder_ / "dump").string(); }

  // Three prompts, three steps.
  [[nodiscard]] CalibrateReport draw(const std::string& record) {
    CalibrateOptions drawn = options(record);
    drawn.generate.width = 64;
    drawn.generate.height = 48;
    drawn.generate.steps = 3;
    drawn.generate.guidance = 4;
    drawn.prompts = {"a cat", "a dog", "a fox"};
    drawn.calib_size = 3;
    drawn.dump = dump();
    return calibrate(*device_, drawn);
  }
  [[nodiscard]] CalibrateOptions from_dump(const std::string& record) const {
    CalibrateOptions result = options(record);
    result.from_dump = dump();
    result.calib_size = 0;
    return result;
  }
  void expect_refused(const CalibrateOptions& wanted, Errc code, const std::string& part) {
    SCOPED_TRACE(part);
    try {
      static_cast<void>(calibrate(*device_, wanted));
      ADD_FAILURE() << "was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
    EXPECT_FALSE(fs::exists(wanted.record) && quant::load_record(wanted.record).samples > 1);
  }

  std::unique_ptr<backend::Device> device_ =
      backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
};

TEST_F(CalibrationDumps, GiveTheRecordOfTheRunThatMadeThem) {
  const CalibrateReport drawn = draw("drawn.safetensors");
  EXPECT_EQ(CalibrationDump(dump()).size(), 3);
  const CalibrateReport read = calibrate(*device_, from_dump("read.safetensors"));
  EXPECT_EQ(read.hash, drawn.hash);
  EXPECT_EQ(read.samples, 3);
  EXPECT_EQ(read.request.steps, 3);
  EXPECT_EQ(read.request.width, 64);
  EXPECT_EQ(quant::load_record(read.record), quant::load_record(drawn.record));

  // Fewer prompts, then the rest: the same again.
  CalibrateOptions some = from_dump("grown.safetensors");
  some.calib_size = 2;
  EXPECT_NE(calibrate(*device_, some).hash, drawn.hash);
  EXPECT_EQ(calibrate(*device_, from_dump("grown.safetensors")).hash, drawn.hash);

  // The batch is not the dump's.
  CalibrateOptions single = from_dump("single.safetensors");
  single.batch_size = 1;
  const quant::CalibrationRecord record = quant::load_record(calibrate(*device_, single).record);
  EXPECT_EQ(record.entry("batch"), "1");
  EXPECT_EQ(record.values.begin()->second.calls.front(), 3);
}

TEST_F(CalibrationDumps, HoldWhatTheDenoiserWasGiven) {
  static_cast<void>(draw("drawn.safetensors"));
  const io::SafetensorsFile file(dump_file(dump(), 1));
  ASSERT_NE(file.find("xs"), nullptr);
  EXPECT_EQ(file.find("xs")->shape, (Shape{3, 1, 6, 8, 4}));
  EXPECT_EQ(file.find("outputs")->shape, (Shape{3, 1, 6, 8, 4}));
  EXPECT_EQ(file.find("conditioning/text_embeds")->shape[0], 2);
  std::vector<float> ts(3);
  (void)file.read(*file.find("ts"), 0, 3, DType::kF32,
                  std::as_writable_bytes(std::span(ts)).data());
  EXPECT_GT(ts[0], ts[1]);
  EXPECT_GT(ts[1], ts[2]);
}

TEST_F(CalibrationDumps, DamagedOrForeignOnesAreRefused) {
  static_cast<void>(draw("drawn.safetensors"));
  const fs::path second = dump_file(dump(), 1);
  const auto with = [&](const std::function<void()>& damage, const std::string& part) {
    fs::copy_file(second, folder_ / "kept");
    damage();
    expect_refused(from_dump("new.safetensors"), Errc::kCorruptFile, part);
    fs::remove(folder_ / "new.safetensors");
    fs::rename(folder_ / "kept", second);
  };
  with([&] { fs::resize_file(second, fs::file_size(second) - 1); }, "prompt-00001.safetensors");
  with([&] { fs::resize_file(second, 40); }, "prompt-00001.safetensors");
  with(
      [&] {
        fs::copy_file(folder_ / "drawn.safetensors", second, fs::copy_options::overwrite_existing);
      },
      "is no calibration dump");
  with([&] { fs::remove(second); }, "prompt-00001.safetensors: is missing");
  with(
      [&] {
        const io::SafetensorsFile file(second);
        const auto at = static_cast<std::streamoff>(file.find("xs")->begin);
        std::fstream out(second, std::ios::binary | std::ios::in | std::ios::out);
        const float nan = std::numeric_limits<float>::quiet_NaN();
        out.seekp(at);
        out.write(reinterpret_cast<const char*>(&nan), sizeof nan);
      },
      "tensor 'xs' holds 1 values that are not finite, from byte");

  with(
      [&] {
        std::string text = read_text_file(second);
        const std::string size = R"(\"height\":6)";
        const size_t at = text.find(size);
        ASSERT_NE(at, std::string::npos);
        write_file_atomically(second, text.replace(at, size.size(), R"(\"height\":9)"));
      },
      "not of the steps and the size");

  fs::rename(dump(), folder_ / "other");
  expect_refused(from_dump("new.safetensors"), Errc::kNotFound, "dump");
  fs::create_directories(dump());
  expect_refused(from_dump("new.safetensors"), Errc::kNotFound, "holds no calibration dump");
}

TEST_F(CalibrationDumps, OfAnotherRunOrModelAreRefused) {
  static_cast<void>(draw("drawn.safetensors"));
  CalibrateOptions more = from_dump("new.safetensors");
  more.calib_size = 4;
  expect_refused(more, Errc::kInvalidArgument, "holds 3 prompts, wanted 4");
  CalibrateOptions both = from_dump("new.safetensors");
  both.dump = (folder_ / "again").string();
  expect_refused(both, Errc::kInvalidArgument, "--from-dump");
  CalibrateOptions bf16 = from_dump("new.safetensors");
  bf16.session.precision = Precision::kBF16;
  expect_refused(bf16, Errc::kInvalidArgument, "precision 'fp32', asked for 'bf16'");
  CalibrateOptions model = from_dump("new.safetensors");
  model.session.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sd15";
  expect_refused(model, Errc::kInvalidArgument, "was made with model");

  // A record that holds prompts whose files are not there.
  fs::remove(dump_file(dump(), 0));
  try {
    static_cast<void>(draw("drawn.safetensors"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("give --restart"), std::string::npos);
  }
}

// --- MixDQ's file

const fs::path kMixdq = fs::path(HALFTONE_SOURCE_DIR) / "tests" / "golden" / "mixdq-dump";

TEST_F(CalibrationDumps, MixdqFilesAreReplayedSampleBySample) {
  const std::string where = kMixdq / "amax.json";
  const Json json = parse_json(read_text_file(where), where);
  const JsonView amax(json, where);
  for (const int count : {2, 0}) {
    CalibrateOptions wanted = from_dump("mixdq" + std::to_string(count) + ".safetensors");
    wanted.from_dump = kMixdq / "calib.pt";
    wanted.calib_size = count;
    wanted.batch_size = 1;
    const CalibrateReport report = calibrate(*device_, wanted);
    const auto samples = static_cast<size_t>(count == 0 ? 3 : count);
    EXPECT_EQ(report.samples, static_cast<int64_t>(samples));
    EXPECT_EQ(report.request.steps, 2);
    EXPECT_EQ(report.request.width, 64);
    EXPECT_EQ(report.request.height, 48);
    const quant::CalibrationRecord record = quant::load_record(report.record);
    const quant::ValueStats* latents = record.find("conv_in");
    const quant::ValueStats* texts =
        record.find("mid_block.attentions.0.transformer_blocks.0.attn2.to_k");
    ASSERT_TRUE(latents != nullptr && texts != nullptr);
    const std::vector<double> text = amax.at("text_embs").numbers();
    EXPECT_EQ(texts->max[0], static_cast<float>(*std::max_element(
                                 text.begin(), text.begin() + static_cast<int64_t>(samples))));
    ASSERT_EQ(latents->max.size(), 2U);
    for (size_t step = 0; step < 2; ++step) {
      float largest = 0, smallest = std::numeric_limits<float>::infinity();
      for (size_t i = 0; i < samples; ++i) {
        const auto value = static_cast<float>(amax.at("xs").items()[i].numbers()[step]);
        largest = std::max(largest, value);
        smallest = std::min(smallest, value);
      }
      EXPECT_EQ(latents->max[step], largest) << step;
      EXPECT_EQ(latents->min[step], smallest) << step;
      EXPECT_EQ(latents->calls[step], static_cast<int64_t>(samples));
    }
  }
}

TEST_F(CalibrationDumps, OtherMixdqFilesAreRefused) {
  const auto refused = [&](const fs::path& file, int count, Errc code, const std::string& part) {
    CalibrateOptions wanted = from_dump("refused.safetensors");
    wanted.from_dump = file;
    wanted.calib_size = count;
    expect_refused(wanted, code, part);
  };
  refused(kMixdq / "calib.pt", 4, Errc::kInvalidArgument, "holds 3 prompts, wanted 4");
  refused(kMixdq / "guided.pt", 0, Errc::kUnsupported, "with guidance");
  refused(kMixdq / ".." / "torch" / "ckpt.pth", 0, Errc::kCorruptFile, "no list 'prompts'");
  refused(kMixdq / ".." / "torch" / "act_sensitive.pt", 0, Errc::kCorruptFile, "is no dict");
  const fs::path cut = folder_ / "cut.pt";
  fs::copy_file(kMixdq / "calib.pt", cut);
  fs::resize_file(cut, 50000);
  refused(cut, 0, Errc::kCorruptFile, "cut.pt");
  // Of a model with other inputs.
  CalibrateOptions other = from_dump("refused.safetensors");
  other.session.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sd15";
  other.from_dump = kMixdq / "calib.pt";
  expect_refused(other, Errc::kCorruptFile, "encoder_hidden_states");
}

}  // namespace
}  // namespace halftone::workflow
