#include "workflow/request.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "io/image.h"
#include "io/safetensors.h"

namespace halftone::workflow {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw Error(Errc::kInvalidArgument, text); }

constexpr int kMaxImages = 100000;

// SDXL-Turbo and its kind: ancestral Euler with trailing timesteps is how they are published.
bool is_turbo(const JsonView& scheduler_config) {
  return scheduler_config.string_or("_class_name", "") == "EulerAncestralDiscreteScheduler" &&
         scheduler_config.string_or("timestep_spacing", "") == "trailing";
}

// What halftone.json says of steps and guidance; values stay as they are where it says nothing.
void read_defaults(const std::optional<JsonView>& settings, int& steps, double& guidance) {
  constexpr int64_t kMaxSteps = 10000;
  if (!settings) return;
  const auto defaults = settings->find("defaults");
  if (!defaults) return;
  for (const auto& [key, value] : defaults->members()) {
    if (key == "steps") {
      steps = static_cast<int>(value.integer(1, kMaxSteps));
    } else if (key == "guidance") {
      guidance = value.number();
    } else {
      value.fail("is unknown; known are steps and guidance");
    }
  }
}

// What a user asked for and cannot have is a wrong parameter, not a wrong model.
template <class F>
auto as_parameter(bool asked, F&& make) {
  try {
    return make();
  } catch (const Error& error) {
    if (!asked || error.code() != Errc::kUnsupported) throw;
    refuse(fmt::format("not supported: {}", error.what()));
  }
}

std::string_view sigma_schedule_name(const diffusion::SchedulerConfig& config) {
  switch (config.sigma_schedule) {
    case diffusion::SigmaSchedule::kNone:
      return "";
    case diffusion::SigmaSchedule::kKarras:
      return "karras";
    case diffusion::SigmaSchedule::kExponential:
      return "exponential";
    case diffusion::SigmaSchedule::kBeta:
      return "beta";
    case diffusion::SigmaSchedule::kLu:
      return "lu";
  }
  return "";
}

Tensor read_init_image(const std::string& path) {
  const io::RgbImage image = io::read_png(path).image;
  Tensor tensor({DType::kF32, {1, image.height, image.width, 3}});
  auto values = tensor.values<float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(image.rgb[i]) / 255.0F;
  return tensor;
}

Tensor read_latents(const std::string& path) {
  const io::SafetensorsFile file(path);
  const io::SafetensorsEntry* entry = file.find("latents");
  if (entry == nullptr) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: has no tensor 'latents'", path));
  }
  if (entry->shape.rank() != 4) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: 'latents' has shape {}, wanted [n,c,h,w]",
                                                path, to_string(entry->shape)));
  }
  Tensor tensor({DType::kF32, entry->shape});
  file.read(*entry, 0, static_cast<uint64_t>(entry->shape.num_elements()), DType::kF32,
            tensor.data());
  return tensor;
}

std::array<float, 2> to_floats(const std::array<int, 2>& pair) {
  return {static_cast<float>(pair[0]), static_cast<float>(pair[1])};
}

void check_counts(const GenerateOptions& options) {
  if (options.batch_size < 1 || options.batch_count < 1 ||
      options.batch_size > kMaxImages / options.batch_count) {
    refuse(fmt::format("batch: got {} x {}, wanted at least 1 x 1 and at most {} images",
                       options.batch_size, options.batch_count, kMaxImages));
  }
  if (options.steps < 0) refuse(fmt::format("steps: got {}, wanted at least 1", options.steps));
  if (!options.sigmas.empty() && !options.timesteps.empty()) {
    refuse("sigmas and timesteps both set the schedule; give one");
  }
  if (!options.sigma_schedule.empty() && !(options.sigmas.empty() && options.timesteps.empty())) {
    refuse(fmt::format("sigma schedule '{}' and a list of {} both set the schedule; give one",
                       options.sigma_schedule, options.sigmas.empty() ? "timesteps" : "sigmas"));
  }
  if (options.strength && options.init_image.empty()) {
    refuse("strength: only means something with an initial image (--init-img)");
  }
  if (!options.latents.empty() && !options.init_image.empty()) {
    refuse("latents and init image both set the start; give one");
  }
}

class Resolver {
 public:
  Resolver(const Model& model, const GenerateOptions& options)
      : model_(model), options_(options), family_(pipeline::find_family(model.family())) {}

  PreparedRequest run() {
    check_counts(options_);
    text();
    size();
    sampling();
    files();
    note_unread();
    return std::move(result_);
  }

 private:
  void text() {
    ResolvedRequest& r = result_.resolved;
    r.model = model_.checkpoint->path().string();
    r.family = model_.family();
    r.prompt = options_.prompt;
    r.prompt_2 = options_.prompt_2.value_or(options_.prompt);
    r.has_negative_prompt = options_.negative_prompt || options_.negative_prompt_2;
    r.negative_prompt = options_.negative_prompt.value_or("");
    r.negative_prompt_2 = options_.negative_prompt_2.value_or(r.negative_prompt);
    const bool has_second = options_.prompt_2 || options_.negative_prompt_2;
    if (has_second && family_.text_encoders.size() < 2) {
      refuse(fmt::format("{}: {} models have one text encoder",
                         options_.prompt_2 ? "prompt-2" : "negative-prompt-2", r.family));
    }
  }

  void size() {
    ResolvedRequest& r = result_.resolved;
    if (!options_.init_image.empty()) {
      result_.init_image = read_init_image(options_.init_image);
      r.init_image = options_.init_image;
      r.height = static_cast<int>(result_.init_image->shape()[1]);
      r.width = static_cast<int>(result_.init_image->shape()[2]);
      const bool fits = (options_.width == 0 || options_.width == r.width) &&
                        (options_.height == 0 || options_.height == r.height);
      if (!fits) {
        refuse(fmt::format("{}: is {}x{}, asked for {}x{}; scale the picture first",
                           options_.init_image, r.width, r.height, options_.width,
                           options_.height));
      }
    } else {
      const auto native =
          static_cast<int>(model_.facts.sample_size * model_.facts.vae_scale_factor);
      r.width = options_.width > 0 ? options_.width : native;
      r.height = options_.height > 0 ? options_.height : native;
    }
    pipeline::check_size(r.width, r.height, model_.facts.vae_scale_factor);
    const std::array<int, 2> whole = {r.height, r.width};
    result_.size = {.original = to_floats(options_.original_size.value_or(whole)),
                    .crop_top_left = to_floats(options_.crop_top_left.value_or(std::array{0, 0})),
                    .target = to_floats(options_.target_size.value_or(whole))};
  }

  void sampling() {
    ResolvedRequest& r = result_.resolved;
    const JsonView stored = model_.checkpoint->scheduler_config();
    const bool asked = !options_.scheduler.empty() || !options_.sigma_schedule.empty();
    diffusion::SchedulerConfig config = as_parameter(asked, [&] {
      return diffusion::choose_scheduler(
          stored, {.scheduler = options_.scheduler, .sigma_schedule = options_.sigma_schedule});
    });
    const diffusion::Scheduler& scheduler = diffusion::scheduler_of(config);
    if (options_.flow_shift) {
      if (!scheduler.is_flow) {
        refuse(fmt::format("flow-shift: {} is no flow scheduler", scheduler.name));
      }
      config.shift = *options_.flow_shift;
    }
    const bool turbo = is_turbo(stored);
    int steps = turbo ? 1 : family_.default_steps;
    double guidance = turbo ? 0.0 : family_.default_guidance;
    read_defaults(model_.checkpoint->settings(), steps, guidance);
    r.steps = options_.steps > 0 ? options_.steps : steps;
    r.guidance = options_.guidance.value_or(guidance);
    if (!std::isfinite(r.guidance)) refuse("guidance: got a number that is not finite");
    r.cfg = r.guidance > 1.0;
    r.strength = options_.strength.value_or(family_.default_strength);
    r.scheduler = std::string(scheduler.name);
    r.sigma_schedule = std::string(sigma_schedule_name(config));
    if (r.sigma_schedule.empty())
      r.sigma_schedule = options_.sigma_schedule;  // a spacing, if given
    const bool custom = !options_.timesteps.empty() || !options_.sigmas.empty();
    result_.schedule = as_parameter(asked || custom || options_.eta, [&] {
      return diffusion::make_schedule(config,
                                      {.num_steps = r.steps,
                                       .strength = options_.init_image.empty() ? 1.0 : r.strength,
                                       .eta = options_.eta.value_or(0.0),
                                       .timesteps = options_.timesteps,
                                       .sigmas = options_.sigmas});
    });
    if (custom) check_steps();
    if (custom) r.steps = static_cast<int>(result_.schedule.rows.size());
    if (options_.eta.value_or(0) != 0 && !scheduler.has_eta) {
      result_.notes.push_back(fmt::format(
          "--eta: without effect: the scheduler {} takes none, ddim does", r.scheduler));
    }
    r.random_seed = !options_.seed;
    r.seed = options_.seed.value_or(0);
    r.rng = std::string(to_string(options_.rng));
    r.batch_size = options_.batch_size;
    r.batch_count = options_.batch_count;
    r.output_type = options_.output_type == OutputType::kLatent ? "latent" : "image";
  }

  // A list of timesteps or sigmas has its own number of steps.
  void check_steps() const {
    const auto listed =
        result_.schedule.first_step + static_cast<int64_t>(result_.schedule.rows.size());
    if (options_.steps == 0 || options_.steps == listed) return;
    refuse(fmt::format("steps: got {}, the list of {} is {} steps long; leave --steps out",
                       options_.steps, options_.sigmas.empty() ? "timesteps" : "sigmas", listed));
  }

  void note_unread() {
    const ResolvedRequest& r = result_.resolved;
    const bool has_sizes = options_.original_size || options_.target_size || options_.crop_top_left;
    if (has_sizes && family_.condition(std::array{result_.size}, 1).empty()) {
      result_.notes.push_back(
          fmt::format("--original-size, --target-size, --crop-top-left: without effect: {} models "
                      "take no sizes",
                      r.family));
    }
    // Other tools always pass an empty one.
    const bool says_something = !r.negative_prompt.empty() || !r.negative_prompt_2.empty();
    if (says_something && !r.cfg) {
      result_.notes.push_back(fmt::format(
          "--negative-prompt: without effect: there is no guidance at --cfg-scale {}", r.guidance));
    }
  }

  void files() {
    if (options_.latents.empty()) return;
    const ResolvedRequest& r = result_.resolved;
    result_.latents = read_latents(options_.latents);
    const int64_t f = model_.facts.vae_scale_factor;
    const Shape wanted{int64_t{r.batch_size} * r.batch_count, model_.facts.latent_channels,
                       r.height / f, r.width / f};
    if (!(result_.latents->shape() == wanted)) {
      refuse(fmt::format("{}: 'latents' has shape {}, wanted {}", options_.latents,
                         to_string(result_.latents->shape()), to_string(wanted)));
    }
  }

  const Model& model_;
  const GenerateOptions& options_;
  const pipeline::Family& family_;
  PreparedRequest result_;
};

}  // namespace

PreparedRequest prepare_request(const Model& model, const GenerateOptions& options) {
  return Resolver(model, options).run();
}

pipeline::Request batch_request(const PreparedRequest& prepared, const GenerateOptions& options,
                                uint64_t seed, int batch, Tensor& latents_of_batch) {
  const ResolvedRequest& r = prepared.resolved;
  pipeline::Request request;
  request.prompt = r.prompt;
  request.prompt_2 = r.prompt_2;
  request.negative_prompt = options.negative_prompt;
  request.negative_prompt_2 = options.negative_prompt_2;
  request.width = r.width;
  request.height = r.height;
  request.guidance = r.guidance;
  request.schedule = prepared.schedule;
  for (int i = 0; i < r.batch_size; ++i) {
    request.seeds.push_back(seed + static_cast<uint64_t>(batch * r.batch_size + i));
  }
  request.rng = options.rng;
  request.size = prepared.size;
  request.negative_size = prepared.size;
  if (prepared.init_image) request.init_image = &*prepared.init_image;
  if (prepared.latents) {
    const Shape& all = prepared.latents->shape();
    latents_of_batch = Tensor({DType::kF32, {r.batch_size, all[1], all[2], all[3]}});
    auto out = latents_of_batch.values<float>();
    const auto from = prepared.latents->values<float>().subspan(
        static_cast<size_t>(batch) * out.size(), out.size());
    std::copy(from.begin(), from.end(), out.begin());
    request.latents = &latents_of_batch;
  }
  request.decode = options.output_type == OutputType::kImage;
  return request;
}

}  // namespace halftone::workflow
