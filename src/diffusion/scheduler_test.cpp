#include "diffusion/scheduler.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/json.h"
#include "diffusion/noise_table.h"

namespace halftone::diffusion {
namespace {

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden/schedulers" / name;
}

Json read_golden(const std::string& name) { return parse_json(read_text_file(golden(name)), name); }

std::vector<float> floats(const JsonView& view) {
  std::vector<float> values;
  for (double v : view.numbers()) values.push_back(static_cast<float>(v));
  return values;
}

double largest(const std::vector<float>& values) {
  double result = 0;
  for (float v : values) result = std::max(result, std::fabs(static_cast<double>(v)));
  return result;
}

double largest_difference(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return INFINITY;
  double result = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    result = std::max(result, std::fabs(static_cast<double>(got[i] - want[i])));
  }
  return result;
}

double elementwise_error(const std::vector<double>& got, const std::vector<float>& want,
                         double floor) {
  if (got.size() != want.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const auto w = static_cast<double>(want[i]);
    worst = std::max(worst, std::fabs(got[i] - w) / std::max(std::fabs(w), floor));
  }
  return worst;
}

constexpr size_t kElements = 4;
using State = std::array<std::vector<float>, kMaxState>;

// The fixed "model outputs" and "noise" of the recorded trajectories.
std::vector<float> model_output(size_t call) {
  std::vector<float> values;
  for (size_t j = 1; j <= kElements; ++j) {
    values.push_back(
        static_cast<float>(std::cos(0.1 * static_cast<double>(call + 1) * static_cast<double>(j))));
  }
  return values;
}

std::vector<float> noise(size_t call) {
  std::vector<float> values;
  for (size_t j = 1; j <= kElements; ++j) {
    values.push_back(static_cast<float>(
        std::sin(0.37 * static_cast<double>(call + 1) + 1.3 * static_cast<double>(j))));
  }
  return values;
}

struct GoldenCase {
  const char* file;
  int num_rows;                      // rows compared, at least
  std::vector<std::string> refused;  // configurations that must be refused by name
};

void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.file; }

class SchedulerGolden : public testing::TestWithParam<GoldenCase> {};

// diffusers rounds each operation to float, so errors add up over the steps: 2e-5 of the sample's
// size covers 50 of them. The last term is the rounding of a step whose result is small against its
// operands (zero terminal SNR goes from 6000 to 1 in one step).
double tolerance(const std::vector<float>& want, const std::vector<float>& before) {
  return 2e-5 * largest(want) + 0x1p-23 * largest(before);
}

void compare_trajectory(const Schedule& schedule, const JsonView& row, const std::string& name) {
  State state;
  state[0] = floats(row.at("start"));
  const auto want = row.at("prev_sample").items();
  const std::vector<float> scales = floats(row.at("input_scale"));
  ASSERT_EQ(schedule.rows.size(), want.size()) << name;
  for (size_t k = 0; k < want.size(); ++k) {
    const ScheduleRow& r = schedule.rows[k];
    EXPECT_NEAR(r.coefficients.input_scale, scales[k], 1e-6 * static_cast<double>(scales[k]))
        << name;
    EXPECT_EQ(r.timestep, static_cast<float>(schedule.timesteps[k])) << name;
    const std::vector<float> before = state[0];
    apply_row(r, state, model_output(k), noise(k));
    const std::vector<float> after = floats(want[k]);
    ASSERT_LT(largest_difference(state[0], after), tolerance(after, before))
        << name << " call " << k;
  }
}

void compare_img2img(const SchedulerConfig& config, const JsonView& file, const JsonView& row,
                     const std::string& name) {
  ScheduleOptions options;
  options.num_steps = row.at("steps").integer();
  options.strength = file.at("strength").number();
  const Schedule schedule = make_schedule(config, options);
  const JsonView want = row.at("img2img");
  EXPECT_EQ(schedule.first_step, want.at("t_start").integer()) << name;
  const std::vector<float> clean = floats(file.at("init_image"));
  const std::vector<float> unit = floats(file.at("unit_start"));
  State state;
  for (size_t j = 0; j < kElements; ++j) {
    state[0].push_back(
        static_cast<float>(schedule.rows[0].signal_scale * static_cast<double>(clean[j]) +
                           schedule.rows[0].noise_scale * static_cast<double>(unit[j])));
  }
  const std::vector<float> noised = floats(want.at("noised"));
  EXPECT_LT(largest_difference(state[0], noised), 1e-6 * largest(noised)) << name;
  for (size_t k = 0; k < schedule.rows.size(); ++k) {
    apply_row(schedule.rows[k], state, model_output(k), noise(k));
  }
  const std::vector<float> final = floats(want.at("final"));
  EXPECT_LT(largest_difference(state[0], final), tolerance(final, noised)) << name;
}

TEST_P(SchedulerGolden, EqualsDiffusers) {
  const Json document = read_golden(GetParam().file);
  const JsonView file(document, GetParam().file);
  int num_compared = 0;
  for (const JsonView& row : file.at("rows").items()) {
    const std::string name = fmt::format("{} {} N={}", GetParam().file, row.at("name").string(),
                                         row.at("steps").integer());
    const JsonView json = row.at("config");
    const auto& refused = GetParam().refused;
    if (std::count(refused.begin(), refused.end(), row.at("name").string()) != 0) {
      EXPECT_THROW(
          {
            ScheduleOptions options;
            options.num_steps = row.at("steps").integer();
            (void)make_schedule(choose_scheduler(json, {}), options);
          },
          Error)
          << name;
      continue;
    }
    const SchedulerConfig config = choose_scheduler(json, {});
    ScheduleOptions options;
    options.num_steps = row.at("steps").integer();
    const Schedule schedule = make_schedule(config, options);
    EXPECT_LT(elementwise_error(schedule.timesteps, floats(row.at("timesteps")), 1), 2e-5) << name;
    if (row.has("sigmas")) {
      EXPECT_LT(elementwise_error(schedule.sigmas, floats(row.at("sigmas")), 1e-3), 2e-6) << name;
    }
    EXPECT_NEAR(schedule.init_noise_sigma, row.at("init_noise_sigma").number(),
                1e-6 * row.at("init_noise_sigma").number())
        << name;
    compare_trajectory(schedule, row, name);
    if (row.has("img2img")) compare_img2img(config, file, row, name);
    ++num_compared;
  }
  EXPECT_GE(num_compared, GetParam().num_rows);
}

INSTANTIATE_TEST_SUITE_P(
    All, SchedulerGolden,
    testing::Values(GoldenCase{"euler.json", 85, {}}, GoldenCase{"euler_ancestral.json", 45, {}},
                    GoldenCase{"flow_match_euler.json", 35, {}},
                    GoldenCase{"lcm.json", 35, {"clip-sample"}},
                    GoldenCase{"ddim.json", 55, {"clip-sample"}},
                    GoldenCase{"ddpm.json", 45, {"clip-sample"}}, GoldenCase{"lms.json", 45, {}},
                    GoldenCase{"dpmpp_2m.json", 109, {"dpmsolver"}},
                    GoldenCase{"pndm.json", 45, {}}, GoldenCase{"unipc.json", 64, {}}),
    [](const testing::TestParamInfo<GoldenCase>& param) {
      return std::filesystem::path(param.param.file).stem().string();
    });

TEST(NoiseTable, AlphasEqualDiffusers) {
  const Json document = read_golden("alphas.json");
  const JsonView file(document, "alphas.json");
  for (const JsonView& row : file.at("rows").items()) {
    Json json = row.at("config").value();
    json.set("_class_name", "DDIMScheduler").set("clip_sample", false);
    const NoiseTable table =
        make_noise_table(parse_scheduler_config(JsonView(json, "alphas")), false);
    const auto want = floats(row.at("alphas_cumprod"));
    const auto index = row.at("index").integers();
    for (size_t i = 0; i < index.size(); ++i) {
      EXPECT_NEAR(table.alpha(index[i]), static_cast<double>(want[i]),
                  2e-7 * static_cast<double>(want[i]))
          << row.at("name").string() << " t " << index[i];
    }
  }
}

SchedulerConfig config_of(std::string_view text, const SchedulerChoice& choice = {}) {
  const Json json = parse_json(text, "scheduler_config.json", {.python_numbers = true});
  return choose_scheduler(JsonView(json, "scheduler_config.json"), choice);
}

constexpr std::string_view kSdxl =
    R"({"_class_name":"EulerDiscreteScheduler","beta_start":0.00085,"beta_end":0.012,
        "beta_schedule":"scaled_linear","timestep_spacing":"leading","steps_offset":1,
        "clip_sample":false,"set_alpha_to_one":false,"skip_prk_steps":true,
        "use_karras_sigmas":false,"trained_betas":null,"unknown_key":[1,{"a":2}]})";
constexpr std::string_view kSd3 =
    R"({"_class_name":"FlowMatchEulerDiscreteScheduler","num_train_timesteps":1000,"shift":3.0})";

Schedule schedule_of(const SchedulerConfig& config, int64_t num_steps) {
  ScheduleOptions options;
  options.num_steps = num_steps;
  return make_schedule(config, options);
}

// Published values of the SDXL, Turbo, LCM and SD3 schedules.
TEST(Schedules, HoldTheDesignsExactValues) {
  const Schedule euler = schedule_of(config_of(kSdxl), 20);
  EXPECT_EQ(euler.timesteps[0], 951);
  EXPECT_NEAR(euler.sigmas[0], 11.028331, 1e-5);
  EXPECT_NEAR(euler.sigmas[1], 8.390685, 1e-5);
  EXPECT_NEAR(euler.sigmas[19], 0.041314, 1e-6);
  EXPECT_NEAR(euler.init_noise_sigma, 11.073576, 1e-5);
  EXPECT_NEAR(schedule_of(config_of(kSdxl), 50).init_noise_sigma, 13.158464, 1e-5);

  const SchedulerConfig turbo = config_of(kSdxl, {"euler-a", "trailing"});
  const Schedule one = schedule_of(turbo, 1);
  EXPECT_EQ(one.timesteps, std::vector<double>{999});
  EXPECT_NEAR(one.sigmas[0], 14.614641, 1e-5);
  EXPECT_FALSE(one.rows[0].uses_noise);
  // x0 = x - sigma * epsilon, seen through input 0.997667 * noise.
  EXPECT_NEAR(one.rows[0].coefficients.update[0][kMaxState], -14.614641, 1e-5);
  EXPECT_NEAR(one.rows[0].coefficients.input_scale * one.init_noise_sigma, 0.997667, 1e-6);
  EXPECT_NEAR(schedule_of(turbo, 4).sigmas[3], 0.693205, 1e-6);

  const SchedulerConfig lcm = config_of(kSdxl, {"lcm", ""});
  EXPECT_EQ(schedule_of(lcm, 4).timesteps, (std::vector<double>{999, 759, 499, 259}));
  EXPECT_EQ(schedule_of(lcm, 8).timesteps,
            (std::vector<double>{999, 879, 759, 639, 499, 379, 259, 139}));
  EXPECT_EQ(schedule_of(config_of(kSdxl, {"unipc", ""}), 30).timesteps[0], 961);

  const Schedule flow = schedule_of(config_of(kSd3), 28);
  EXPECT_NEAR(flow.sigmas[0], 1, 1e-6);
  EXPECT_NEAR(flow.sigmas[14], 0.737056, 1e-6);
  EXPECT_NEAR(flow.sigmas[27], 0.008929, 1e-6);
  EXPECT_EQ(flow.sigmas[28], 0);
}

TEST(Names, EverySpellingFindsItsScheduler) {
  const std::pair<const char*, const char*> names[] = {{"Euler", "euler"},
                                                       {"k_euler", "euler"},
                                                       {"EulerDiscreteScheduler", "euler"},
                                                       {"EulerA", "euler-a"},
                                                       {"euler_a", "euler-a"},
                                                       {"Euler a", "euler-a"},
                                                       {"LMSD", "lms"},
                                                       {"LMS", "lms"},
                                                       {"UniPC", "unipc"},
                                                       {"PLMS", "pndm"},
                                                       {"PNDM", "pndm"},
                                                       {"DDIM", "ddim"},
                                                       {"DDPM", "ddpm"},
                                                       {"LCM", "lcm"},
                                                       {"dpm++2m", "dpmpp-2m"},
                                                       {"DPM++ 2M", "dpmpp-2m"},
                                                       {"k_dpmpp_2m", "dpmpp-2m"},
                                                       {"dpm++2m_sde", "dpmpp-2m-sde"},
                                                       {"FlowMatchEuler", "flow-euler"}};
  for (const auto& [name, canonical] : names) {
    const Scheduler* scheduler = find_scheduler(name);
    ASSERT_NE(scheduler, nullptr) << name;
    EXPECT_EQ(scheduler->name, canonical) << name;
  }
  std::set<std::string_view> spellings;
  for (const Scheduler* scheduler : schedulers()) {
    EXPECT_TRUE(spellings.insert(scheduler->name).second) << scheduler->name;
    for (std::string_view alias : scheduler->aliases) {
      EXPECT_TRUE(spellings.insert(alias).second) << alias;
    }
  }
}

TEST(Names, SigmaWordsMayFollowTheName) {
  const SchedulerConfig karras = config_of(kSdxl, {"DPM++ 2M Karras", ""});
  EXPECT_EQ(karras.sigma_schedule, SigmaSchedule::kKarras);
  EXPECT_EQ(karras.class_name, "DPMSolverMultistepScheduler");
  EXPECT_EQ(config_of(kSdxl, {"ddim_trailing", ""}).timestep_spacing, TimestepSpacing::kTrailing);
  EXPECT_EQ(config_of(kSdxl, {"", "exponential"}).sigma_schedule, SigmaSchedule::kExponential);
  EXPECT_EQ(config_of(kSdxl, {"dpm++2m_sde", ""}).algorithm_type, "sde-dpmsolver++");
}

TEST(Names, EulerOnAFlowModelIsFlowEuler) {
  EXPECT_EQ(config_of(kSd3, {"euler", ""}).class_name, "FlowMatchEulerDiscreteScheduler");
}

struct BadCase {
  std::string json;
  SchedulerChoice choice;
  Errc code;
  std::string text;
};

void expect_refused(const BadCase& c, const ScheduleOptions& options) {
  try {
    (void)make_schedule(config_of(c.json, c.choice), options);
    ADD_FAILURE() << "accepted: " << c.json << " wanted: " << c.text;
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.code()), to_string(c.code)) << error.what();
    EXPECT_NE(std::string(error.what()).find(c.text), std::string::npos)
        << error.what() << "\nwanted: " << c.text;
  }
}

TEST(BadConfigs, AreRefusedByName) {
  const auto euler = [](const std::string& keys) {
    return "{\"_class_name\":\"EulerDiscreteScheduler\"," + keys + "}";
  };
  const auto ddim = [](const std::string& keys) {
    return "{\"_class_name\":\"DDIMScheduler\"," + keys + "}";
  };
  const BadCase cases[] = {
      {R"({"_class_name":"HeunDiscreteScheduler"})",
       {},
       Errc::kUnsupported,
       "unknown scheduler class"},
      {"{}", {}, Errc::kCorruptFile, "_class_name"},
      {euler(R"("prediction_type":"magic")"), {}, Errc::kUnsupported, "prediction_type 'magic'"},
      {euler(R"("prediction_type":3)"), {}, Errc::kCorruptFile, "prediction_type"},
      {euler(R"("beta_schedule":"sigmoid")"), {}, Errc::kUnsupported, "beta_schedule 'sigmoid'"},
      {euler(R"("beta_start":0.02,"beta_end":0.01)"), {}, Errc::kCorruptFile, "beta_start 0.02"},
      {euler(R"("beta_start":-1)"), {}, Errc::kCorruptFile, "beta_start"},
      {euler(R"("beta_end":2)"), {}, Errc::kCorruptFile, "beta_end 2"},
      {euler(R"("trained_betas":[0.1,0.2])"), {}, Errc::kCorruptFile, "got 2 values"},
      {euler(R"("num_train_timesteps":0)"), {}, Errc::kCorruptFile, "num_train_timesteps"},
      {euler(R"("num_train_timesteps":1000000000)"), {}, Errc::kCorruptFile, "num_train_timesteps"},
      {euler(R"("num_train_timesteps":1.5)"), {}, Errc::kCorruptFile, "num_train_timesteps"},
      {euler(R"("steps_offset":-1)"), {}, Errc::kCorruptFile, "steps_offset"},
      {euler(R"("timestep_spacing":"odd")"), {}, Errc::kUnsupported, "timestep_spacing 'odd'"},
      {euler(R"("timestep_type":"continuous")"), {}, Errc::kUnsupported, "timestep_type"},
      {euler(R"("sigma_min":0)"), {}, Errc::kCorruptFile, "sigma_min"},
      {euler(R"("use_karras_sigmas":true,"use_beta_sigmas":true)"),
       {},
       Errc::kCorruptFile,
       "more than one"},
      {R"({"_class_name":"FlowMatchEulerDiscreteScheduler","shift":0})",
       {},
       Errc::kCorruptFile,
       "shift"},
      {R"({"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true})",
       {},
       Errc::kUnsupported,
       "use_dynamic_shifting true"},
      {ddim(R"("thresholding":true,"clip_sample":false)"),
       {},
       Errc::kUnsupported,
       "DDIMScheduler: thresholding true"},
      {ddim(R"("clip_sample":true)"), {}, Errc::kUnsupported, "DDIMScheduler: clip_sample true"},
      {ddim(R"("num_train_timesteps":1000)"), {}, Errc::kUnsupported, "clip_sample"},
      {ddim(R"("clip_sample":false,"rescale_betas_zero_snr":true,"timestep_spacing":"trailing")"),
       {},
       Errc::kUnsupported,
       "no finite update"},
      {R"({"_class_name":"PNDMScheduler"})", {}, Errc::kUnsupported, "skip_prk_steps"},
      {R"({"_class_name":"DDPMScheduler","clip_sample":false,"variance_type":"learned"})",
       {},
       Errc::kUnsupported,
       "variance_type 'learned'"},
      {R"({"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped":-5.1})",
       {},
       Errc::kUnsupported,
       "lambda_min_clipped -5.1: clipping"},
      {R"({"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped":Infinity})",
       {},
       Errc::kUnsupported,
       "lambda_min_clipped inf: clipping"},
      {R"({"_class_name":"DPMSolverMultistepScheduler","sigma_min":-Infinity})",
       {},
       Errc::kCorruptFile,
       "got -inf, wanted a finite number"},
      {R"({"_class_name":"UniPCMultistepScheduler","solver_order":4})",
       {},
       Errc::kUnsupported,
       "solver_order 4"},
      {R"({"_class_name":"UniPCMultistepScheduler","predict_x0":false})",
       {},
       Errc::kUnsupported,
       "predict_x0 false"},
      {std::string(kSdxl), {"heun", ""}, Errc::kInvalidArgument, "wanted one of euler, euler-a"},
      {std::string(kSdxl), {"flow-euler", ""}, Errc::kInvalidArgument, "predict a flow"},
      {std::string(kSd3), {"ddim", ""}, Errc::kInvalidArgument, "predict noise"},
      {std::string(kSdxl),
       {"", "ays"},
       Errc::kInvalidArgument,
       "leading, trailing, linspace, karras"},
      {std::string(kSdxl),
       {"ddim", "karras"},
       Errc::kUnsupported,
       "not available for scheduler ddim"},
  };
  ScheduleOptions options;
  options.num_steps = 5;
  for (const BadCase& c : cases) expect_refused(c, options);
}

TEST(Configs, LambdaMinOfMinusInfinityIsDiffusersDefault) {
  constexpr std::string_view kPlain = R"({"_class_name":"DPMSolverMultistepScheduler"})";
  constexpr std::string_view kWritten =
      R"({"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped":-Infinity})";
  const Schedule a = schedule_of(config_of(kPlain), 5);
  const Schedule b = schedule_of(config_of(kWritten), 5);
  ASSERT_EQ(a.rows.size(), b.rows.size());
  for (size_t i = 0; i < a.rows.size(); ++i) EXPECT_EQ(a.rows[i].timestep, b.rows[i].timestep);
}

TEST(BadOptions, AreRefusedWithTheirRange) {
  const std::string sdxl(kSdxl);
  const std::string sd3(kSd3);
  const auto expect = [](const std::string& json, const std::string& scheduler,
                         const ScheduleOptions& options, Errc code, const std::string& text) {
    expect_refused({json, {scheduler, ""}, code, text}, options);
  };
  for (const char* name : {"euler", "ddim", "unipc", "pndm", "lcm", "dpmpp-2m"}) {
    for (int64_t steps : {int64_t{0}, int64_t{-1}, int64_t{1000000000}}) {
      expect(sdxl, name, {.num_steps = steps}, Errc::kInvalidArgument, "steps: got");
    }
  }
  expect(sdxl, "lcm", {.num_steps = 51}, Errc::kInvalidArgument, "distilled to 50");
  for (double strength : {0.0, -1.0, 1.5, std::nan("")}) {
    expect(sdxl, "euler", {.num_steps = 4, .strength = strength}, Errc::kInvalidArgument,
           "strength: got");
  }
  expect(sdxl, "euler", {.num_steps = 4, .strength = 0.1}, Errc::kInvalidArgument, "leaves none");
  expect(sdxl, "ddim", {.num_steps = 4, .eta = 2}, Errc::kInvalidArgument, "eta");
  expect(sdxl, "euler", {.sigmas = {1.0, 2.0, 0.0}}, Errc::kInvalidArgument, "descending");
  expect(sdxl, "euler", {.sigmas = {std::nan(""), 0.0}}, Errc::kInvalidArgument, "descending");
  expect(sdxl, "euler", {.sigmas = {-1.0}}, Errc::kInvalidArgument, "sigmas: got -1");
  expect(sdxl, "euler", {.sigmas = {5.0}}, Errc::kInvalidArgument, "final one");
  expect(sd3, "", {.sigmas = {0.5, 0.0}}, Errc::kInvalidArgument, "sigmas: got 0");
  expect(sdxl, "euler", {.timesteps = {1000}}, Errc::kInvalidArgument, "timesteps: got 1000");
  expect(sdxl, "euler", {.timesteps = {5, 5}}, Errc::kInvalidArgument, "timesteps: got 5");
  expect(sdxl, "euler", {.timesteps = {5}, .sigmas = {5, 0}}, Errc::kInvalidArgument,
         "at most one");
  expect(sdxl, "ddim", {.timesteps = {5}}, Errc::kUnsupported, "takes no list of timesteps");
  expect(sdxl, "pndm", {.sigmas = {5, 0}}, Errc::kUnsupported, "takes no list of sigmas");
}

TEST(CustomLists, ReproduceTheSpacedSchedule) {
  const SchedulerConfig config = config_of(kSdxl);
  const Schedule spaced = schedule_of(config, 20);
  ScheduleOptions by_timesteps;
  by_timesteps.timesteps = spaced.timesteps;
  ScheduleOptions by_sigmas;
  by_sigmas.sigmas = spaced.sigmas;
  for (const ScheduleOptions& options : {by_timesteps, by_sigmas}) {
    const Schedule custom = make_schedule(config, options);
    ASSERT_EQ(custom.rows.size(), spaced.rows.size());
    for (size_t i = 0; i < custom.rows.size(); ++i) {
      EXPECT_NEAR(custom.rows[i].timestep, spaced.rows[i].timestep, 1e-2);
      EXPECT_FLOAT_EQ(custom.rows[i].coefficients.update[0][kMaxState],
                      spaced.rows[i].coefficients.update[0][kMaxState]);
    }
  }
}

// A model's file that names another class says nothing about options of pixel models.
TEST(SchedulerChoice, EveryNameRunsOnAFileOfAnotherClass) {
  const std::string euler = R"({"_class_name":"EulerDiscreteScheduler","steps_offset":1})";
  for (const Scheduler* scheduler : schedulers()) {
    if (scheduler->is_flow) continue;
    SCOPED_TRACE(scheduler->name);
    const SchedulerConfig config = config_of(euler, {std::string(scheduler->name), ""});
    EXPECT_EQ(scheduler_of(config).name, scheduler->name);
    EXPECT_GE(make_schedule(config, {.num_steps = 4}).rows.size(), 4U);
  }
}

// With eta 1 and neighbouring timesteps DDIM is DDPM.
TEST(Ddim, EtaOneIsDdpm) {
  ScheduleOptions options;
  options.num_steps = 1000;
  options.eta = 1;
  const std::string json =
      R"({"_class_name":"DDIMScheduler","clip_sample":false,"set_alpha_to_one":true})";
  const Schedule ddim = make_schedule(config_of(json), options);
  const Schedule ddpm = make_schedule(config_of(json, {"ddpm", ""}), options);
  for (size_t i = 0; i + 1 < ddim.rows.size(); i += 37) {
    for (size_t j : {size_t{0}, size_t{kMaxState}, size_t{kMaxState + 1}}) {
      EXPECT_NEAR(ddim.rows[i].coefficients.update[0][j], ddpm.rows[i].coefficients.update[0][j],
                  1e-5)
          << i << " " << j;
    }
  }
}

TEST(BetaQuantile, InvertsKnownDistributions) {
  EXPECT_NEAR(beta_quantile(0.3, 1, 1), 0.3, 1e-14);
  EXPECT_NEAR(beta_quantile(0.25, 2, 1), 0.5, 1e-14);
  EXPECT_NEAR(beta_quantile(0.5, 0.6, 0.6), 0.5, 1e-12);
  // Arcsine distribution: I_x(1/2, 1/2) = 2/pi asin(sqrt(x)).
  EXPECT_NEAR(beta_quantile(1.0 / 3, 0.5, 0.5), 0.25, 1e-12);
  EXPECT_EQ(beta_quantile(0, 0.6, 0.6), 0);
  EXPECT_EQ(beta_quantile(1, 0.6, 0.6), 1);
}

}  // namespace
}  // namespace halftone::diffusion
