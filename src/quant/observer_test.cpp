// Records and scales against numbers worked out by hand.
#include "quant/observer.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "graph/ops/reduce.h"
#include "reference/reference.h"
#include "tensor/computed_weights.h"

namespace halftone::quant {
namespace {

namespace fs = std::filesystem;

// Two layers that read x, one that reads the text, one of the schedule.
graph::Graph model() {
  return graph::parse(R"(input %0 "x" f32[2,3,4] step
input %1 "text" f32[2,3,4] prompt
input %2 "time" f32[1,4] schedule
weight %3 "m/a.weight" f32[4,4]
node "a" linear{activation=none geglu=false} x=%0 weight=%3 -> %4 f32[2,3,4] step
weight %5 "m/b.weight" f32[4,4]
node "b" linear{activation=none geglu=false} x=%0 weight=%5 -> %6 f32[2,3,4] step
weight %7 "m/k.weight" f32[4,4]
node "k" linear{activation=none geglu=false} x=%1 weight=%7 -> %8 f32[2,3,4] prompt
weight %9 "m/t.weight" f32[4,4]
node "t" linear{activation=none geglu=false} x=%2 weight=%9 -> %10 f32[1,4] schedule
output "a" %4
output "b" %6
output "k" %8
output "t" %10
)");
}

ComputedWeights zeros() {
  return ComputedWeights([](const std::string& /*name*/, size_t /*i*/) { return 0.0F; });
}

class Calibration {
 public:
  Calibration() : graph_(model()), taps_(insert_taps(graph_)) { verify(graph_); }

  // One call with x = `x` everywhere but one element, text's token 0 = 100.
  void call(CalibrationRecord& record, float x, float one, int step) {
    std::map<std::string, Tensor> inputs;
    inputs.emplace("x", Tensor({DType::kF32, {2, 3, 4}}));
    inputs.emplace("text", Tensor({DType::kF32, {2, 3, 4}}));
    inputs.emplace("time", Tensor::zeros({DType::kF32, {1, 4}}));
    std::ranges::fill(inputs.at("x").values<float>(), x);
    inputs.at("x").values<float>()[5] = one;  // column 1
    std::ranges::fill(inputs.at("text").values<float>(), 0.5F);
    for (size_t i = 0; i < 4; ++i) {
      inputs.at("text").values<float>()[i] = inputs.at("text").values<float>()[12 + i] = 100.0F;
    }
    const auto outputs = reference::evaluate(graph_, inputs, zeros());
    Recorder recorder(record, taps_, 4);
    recorder.observe([&](const std::string& name) { return outputs.at(name).clone(); }, step);
  }

  const std::vector<Tap>& taps() const { return taps_; }

 private:
  graph::Graph graph_;
  std::vector<Tap> taps_;
};

CalibrationRecord sample() {
  Calibration calibration;
  CalibrationRecord record;
  record.key = {{"model", "abc"}, {"steps", "4"}};
  // m a call at steps 0..3: 8, 4, 2, 1; then 6, 5, 2, 3; then 10 at step 0 alone.
  const float first[] = {8, 4, 2, 1};
  const float second[] = {6, -5, 2, -3};
  for (int k = 0; k < 4; ++k) calibration.call(record, 0.5F, first[k], k);
  for (int k = 0; k < 4; ++k) calibration.call(record, 0.5F, second[k], k);
  calibration.call(record, 0.5F, 10, 0);
  record.samples = 3;
  return record;
}

TEST(Taps, SharedInputsAreTappedOnceAndTheScheduleNever) {
  const Calibration calibration;
  ASSERT_EQ(calibration.taps().size(), 3U);
  EXPECT_EQ(calibration.taps()[0].value, "a");
  EXPECT_EQ(calibration.taps()[0].layers, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(calibration.taps()[1].value, "k");
  EXPECT_EQ(calibration.taps()[2].value, "k/without_first");
}

TEST(Recorder, KeepsStatisticsPerStep) {
  const CalibrationRecord record = sample();
  const ValueStats& stats = *record.find("b");
  EXPECT_EQ(stats.calls, (std::vector<int64_t>{3, 2, 2, 2}));
  EXPECT_EQ(stats.sum, (std::vector<float>{24, 9, 4, 4}));
  EXPECT_EQ(stats.max, (std::vector<float>{10, 5, 2, 3}));
  EXPECT_EQ(stats.min, (std::vector<float>{6, 4, 2, 1}));
  EXPECT_EQ(stats.low, -5.0F);
  EXPECT_EQ(stats.high, 10.0F);
  EXPECT_EQ(stats.column_amax, (std::vector<float>{0.5F, 10, 0.5F, 0.5F}));
  int64_t total = 0;
  for (const int64_t n : stats.histogram) total += n;
  EXPECT_EQ(total, 9 * 24);
  EXPECT_EQ(record.find("k")->max, (std::vector<float>{100}));
  EXPECT_EQ(record.values.at("k/without_first").max, (std::vector<float>{0.5F}));
  EXPECT_EQ(record.find("t"), nullptr);
}

TEST(Recorder, RefusesAnotherModelOrNumberOfSteps) {
  CalibrationRecord record = sample();
  const Calibration calibration;
  EXPECT_THROW(Recorder(record, calibration.taps(), 5), Error);
  std::vector<Tap> taps = calibration.taps();
  taps[0].channels = 8;
  EXPECT_THROW(Recorder(record, taps, 4), Error);
  taps[0].value = "other";
  EXPECT_THROW(Recorder(record, taps, 4), Error);
}

TEST(Recorder, NotANumberIsAnError) {
  Calibration calibration;
  CalibrationRecord record;
  EXPECT_THROW(calibration.call(record, 1, std::numeric_limits<float>::quiet_NaN(), 0), Error);
  EXPECT_THROW(calibration.call(record, 1, std::numeric_limits<float>::infinity(), 0), Error);
}

float amax(std::string_view method, std::string_view compat = "none", double percentile = 1.0) {
  static const CalibrationRecord record = sample();
  Collect collect;
  collect.method = parse_method(method, collect.histogram_percentile);
  collect.compat = parse_compat(compat);
  collect.percentile = percentile;
  return amax_of(*record.find("a"), collect);
}

TEST(AmaxOf, EachMethodByHand) {
  EXPECT_EQ(amax("min-mean"), 2.0F);  // means 8, 4.5, 2, 2
  EXPECT_EQ(amax("mean-max"), 5.0F);  // (10 + 5 + 2 + 3) / 4
  EXPECT_EQ(amax("min-max"), 2.0F);
  EXPECT_EQ(amax("global_min"), 1.0F);
  EXPECT_EQ(amax("max"), 10.0F);
  EXPECT_EQ(amax("default"), 10.0F);
}

TEST(AmaxOf, PercentileIsAShareOfSteps) {
  EXPECT_EQ(amax("min-mean", "none", 0.5), 4.5F);
  EXPECT_EQ(amax("min-mean", "none", 0.1), 8.0F);  // at least one step
  EXPECT_EQ(amax("mean-max", "none", 0.5), 7.5F);
}

TEST(AmaxOf, SourceSystemsDivideByTheNumberOfSteps) {
  EXPECT_EQ(amax("min-mean", "trt10"), 1.0F);  // min(24, 9, 4, 4) / 4
  EXPECT_EQ(amax("min-mean", "nemo"), 1.0F);
  EXPECT_EQ(amax("global_min", "trt10"), 0.25F);
  EXPECT_EQ(amax("global_min", "nemo"), 1.0F);
  EXPECT_EQ(amax("min-mean", "trt9"), 10.0F);  // first 40 %: step 0 alone
}

TEST(AmaxOf, MixdqAveragesSignedExtremes) {
  // lows .5, .5, .5, .5, .5, -5, .5, -3, .5; highs 8, 4, 2, 1, 6, .5, 2, .5, 10.
  double high = 8;
  for (const double h : {4.0, 2.0, 1.0, 6.0, 0.5, 2.0, 0.5, 10.0}) high = 0.95 * high + 0.05 * h;
  EXPECT_NEAR(static_cast<double>(amax("max", "mixdq")), high, 1e-5);
}

TEST(AmaxOf, HistogramsCutOutliers) {
  ValueStats stats;
  stats.channels = 1;
  stats.histogram.assign(graph::kHistogramBins, 0);
  for (int i = 1; i <= 9990; ++i) {
    ++stats.histogram[static_cast<size_t>(graph::histogram_bin(static_cast<float>(i) / 9990.0F))];
  }
  stats.histogram[static_cast<size_t>(graph::histogram_bin(1000.0F))] += 10;
  stats.max = {1000};
  stats.calls = {1};
  Collect collect;
  collect.method = parse_method("hist:99.9", collect.histogram_percentile);
  EXPECT_NEAR(static_cast<double>(amax_of(stats, collect)), 1.0, 0.04);  // a bin is 3 % wide
  collect.method = parse_method("hist:100", collect.histogram_percentile);
  EXPECT_EQ(amax_of(stats, collect), 1000.0F);
  // Ten values of 1000 weigh more than fine steps for the rest: mse keeps them; fewer bits, too.
  collect.method = Collect::Method::kMse;
  EXPECT_GT(amax_of(stats, collect), 900.0F);
  // One value of 3 among many below 1: clipping it costs 4, keeping it triples every step.
  stats.histogram[static_cast<size_t>(graph::histogram_bin(1000.0F))] = 0;
  stats.histogram[static_cast<size_t>(graph::histogram_bin(3.0F))] = 1;
  stats.max = {3};
  EXPECT_LT(amax_of(stats, collect, 4), 2.0F);
}

TEST(PredictedSqnr, ByHand) {
  ValueStats stats;
  const double nothing = -std::numeric_limits<double>::infinity();
  EXPECT_EQ(predicted_sqnr(stats, 0.5, 1), nothing);
  stats.histogram.assign(graph::kHistogramBins, 0);
  EXPECT_EQ(predicted_sqnr(stats, 0.5, 1), nothing);
  stats.histogram[0] = 24;
  EXPECT_EQ(predicted_sqnr(stats, 0.5, 1), nothing) << "zeros alone";
  // The bin of 1 reaches to 1 + 1/32; three of four values are zero.
  stats.histogram[static_cast<size_t>(graph::histogram_bin(1.0F))] = 8;
  const double mean_square = 0.25 * 1.015625 * 1.015625;
  EXPECT_NEAR(predicted_sqnr(stats, 0.5, 1), 10 * std::log10(mean_square * 12 / 0.25), 1e-12);
  EXPECT_NEAR(predicted_sqnr(stats, 0.5, 4), 10 * std::log10(mean_square * 3 / 0.25), 1e-12);
}

TEST(ParseMethod, RefusesUnknownNames) {
  double p = 0;
  for (const char* bad : {"", "mean", "hist:", "hist:0", "hist:-1", "hist:nan", "hist:1x"}) {
    EXPECT_THROW((void)parse_method(bad, p), Error) << bad;
  }
  EXPECT_THROW((void)parse_compat("trt11"), Error);
}

class RecordFile : public ::testing::Test {
 protected:
  TemporaryFolder temporary_;
  fs::path path_ = temporary_.path() / "record.safetensors";
};

TEST_F(RecordFile, RoundTripsAndResumesEqually) {
  const CalibrationRecord record = sample();
  save(record, path_);
  CalibrationRecord loaded = load_record(path_);
  EXPECT_EQ(loaded, record);
  EXPECT_EQ(loaded.hash(), record.hash());
  CalibrationRecord whole = sample();
  Calibration calibration;
  calibration.call(loaded, 0.25F, 3, 1);
  calibration.call(whole, 0.25F, 3, 1);
  EXPECT_EQ(loaded, whole);
  EXPECT_NE(loaded.hash(), record.hash());
}

TEST_F(RecordFile, DamageIsAnError) {
  CalibrationRecord record = sample();
  record.values.at("a").column_amax[0] = -1;
  save(record, path_);
  EXPECT_THROW((void)load_record(path_), Error);
  record = sample();
  record.values.at("a").max[1] = std::numeric_limits<float>::quiet_NaN();
  save(record, path_);
  EXPECT_THROW((void)load_record(path_), Error);
  record = sample();
  record.values.at("a").calls[1] = -3;
  save(record, path_);
  EXPECT_THROW((void)load_record(path_), Error);
  record = sample();
  record.layers["z"] = "nowhere";
  save(record, path_);
  EXPECT_THROW((void)load_record(path_), Error);
  save(sample(), path_);
  const std::string whole = read_text_file(path_);
  for (const size_t size :
       {size_t{0}, size_t{7}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    write_file_atomically(path_, whole.substr(0, size));
    try {
      (void)load_record(path_);
      ADD_FAILURE() << "accepted " << size << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile) << error.what();
    }
  }
  fs::remove(path_);
  try {
    (void)load_record(path_);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kNotFound);
  }
}

}  // namespace
}  // namespace halftone::quant
