#include "pipeline/pipeline.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "pipeline/clock.h"
#include "pipeline/latents.h"

namespace halftone::pipeline {
namespace {

using runtime::Executor;

class MetadataView {
 public:
  MetadataView(std::string component, std::map<std::string, std::string> values)
      : component_(std::move(component)), values_(std::move(values)) {}

  [[nodiscard]] const std::string& text(const std::string& key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) fail(key, "is missing");
    return found->second;
  }
  template <class T>
  [[nodiscard]] T number(const std::string& key) const {
    const std::string& value = text(key);
    T result{};
    const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (code != std::errc() || end != value.data() + value.size()) {
      fail(key, fmt::format("got '{}', wanted a number", value));
    }
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& key, const std::string& text) const {
    throw Error(Errc::kCorruptFile,
                fmt::format("{} plan: metadata key '{}' {}; run 'halftone build' again", component_,
                            key, text));
  }
  std::string component_;
  std::map<std::string, std::string> values_;
};

void report(const ProgressCallback& progress, std::string_view stage, int done, int total) {
  if (!progress || progress({.stage = stage, .done = done, .total = total})) return;
  throw Error(Errc::kCancelled, fmt::format("cancelled ({} {}/{})", stage, done, total));
}

}  // namespace

ModelFacts read_facts(const std::map<std::string, std::string>& unet_metadata,
                      const std::map<std::string, std::string>& vae_metadata) {
  const MetadataView unet("unet", unet_metadata);
  const MetadataView vae("vae_decoder", vae_metadata);
  return {.family = unet.text("family"),
          .force_zeros_for_empty_prompt = unet.text("force_zeros_for_empty_prompt") == "true",
          .latent_channels = unet.number<int64_t>("latent_channels"),
          .sample_size = unet.number<int64_t>("sample_size"),
          .vae_scale_factor = vae.number<int64_t>("vae_scale_factor"),
          .scaling_factor = vae.number<double>("scaling_factor"),
          .shift_factor = vae.number<double>("shift_factor")};
}

void check_size(int64_t width, int64_t height, int64_t factor) {
  const auto suggest = [&](std::string_view what, int64_t value) {
    if (value > 0 && value % factor == 0) return;
    const int64_t below = std::max(factor, value / factor * factor);
    ErrorDetails details{.key = std::string(what),
                         .got = fmt::format("{}", value),
                         .wanted = fmt::format("a multiple of {}", factor),
                         .remedy = fmt::format("the nearest are {} and {}", below, below + factor)};
    throw Error(
        Errc::kInvalidArgument,
        fmt::format("{}: got {}, wanted {}; {}", what, details.got, details.wanted, details.remedy),
        details);
  };
  suggest("width", width);
  suggest("height", height);
}

Pipeline::Pipeline(PipelineOptions options)
    : options_(std::move(options)),
      family_(find_family(options_.facts.family)),
      components_(*options_.device, options_.plans,
                  {.shapes_kept = options_.shapes_kept,
                   .profile = options_.profile,
                   .record = options_.record,
                   .one_at_a_time = options_.low_vram,
                   .together = {family_.text_encoders.begin(), family_.text_encoders.end()},
                   .observer = options_.observer,
                   .logger = options_.logger}),
      stream_(options_.device->create_stream()),
      side_(options_.device->create_side_stream()) {
  check_internal(options_.tokenizers.size() == family_.text_encoders.size(),
                 "one tokenizer a text encoder");
  for (const auto& tokenizer : options_.tokenizers) {
    if (tokenizer->max_length() == options_.tokenizers.front()->max_length()) continue;
    throw Error(Errc::kUnsupported,
                fmt::format("tokenizers: got lengths {} and {}, wanted equal ones",
                            options_.tokenizers.front()->max_length(), tokenizer->max_length()));
  }
}

int64_t Pipeline::texts_at_once(bool cfg, bool has_negative) const {
  return options_.pair_texts && cfg && (has_negative || !zeros_for_no_negative()) ? 2 : 1;
}

bool Pipeline::zeros_for_no_negative() const {
  return family_.may_zero_negative && options_.facts.force_zeros_for_empty_prompt;
}

std::vector<Components::Wanted> Pipeline::wanted(int64_t width, int64_t height, int64_t batch,
                                                 bool cfg, bool decode, bool encode,
                                                 int64_t texts) const {
  const int64_t h = height / options_.facts.vae_scale_factor;
  const int64_t w = width / options_.facts.vae_scale_factor;
  const int64_t tokens = options_.tokenizers.front()->max_length();
  std::vector<Components::Wanted> list;
  for (const std::string_view encoder : family_.text_encoders) {
    list.push_back({std::string(encoder), {{"batch", texts}, {"text_tokens", tokens}}});
  }
  list.push_back({"unet",
                  {{"batch", batch},
                   {"height", h},
                   {"width", w},
                   {"text_tokens", tokens},
                   {"cfg", cfg ? 1 : 0}}});
  if (decode) {
    list.push_back({"vae_decoder", {{"batch", 1}, {"height", h}, {"width", w}}});
  }
  if (encode) {
    list.push_back({"vae_encoder", {{"batch", 1}, {"height", h}, {"width", w}}});
  }
  return list;
}

// The state of one generate() call.
struct Pipeline::Run {
  Run(Pipeline& owner, const Request& request_in)
      : pipeline(owner),
        facts(owner.options_.facts),
        request(request_in),
        batch(static_cast<int64_t>(request_in.seeds.size())),
        height(request_in.height / facts.vae_scale_factor),
        width(request_in.width / facts.vae_scale_factor),
        cfg(request_in.guidance > 1.0),
        noise(request_in.rng, request_in.seeds),
        timer(*owner.stream_) {}

  void prepare() {
    check();
    wanted =
        pipeline.wanted(request.width, request.height, batch, cfg, request.decode,
                        request.init_image != nullptr, pipeline.texts_at_once(cfg, has_negative()));
    const auto executors = pipeline.components_.prepare(wanted, request.progress);
    for (size_t i = 0; i < executors.size(); ++i) by_name[wanted[i].component] = executors[i];
    result.plans = pipeline.components_.last_uses();
    result.load_ms = pipeline.components_.last_load_ms();
    result.build_ms = pipeline.components_.last_build_ms();
  }

  // A component's executor. With low_vram it is loaded now, and what was loaded before is freed;
  // the text encoders, which take turns, stay together.
  Executor& executor(std::string_view component) {
    const std::string name(component);
    if (const auto found = by_name.find(name); found != by_name.end()) return *found->second;
    const auto is_text = [](const Components::Wanted& item) {
      return item.component.starts_with("text_encoder");
    };
    std::vector<Components::Wanted> group;
    for (const Components::Wanted& item : wanted) {
      const bool joins = name.starts_with("text_encoder") ? is_text(item) : item.component == name;
      if (joins) group.push_back(item);
    }
    by_name.clear();
    pipeline.stream_->synchronize();  // loading is timed apart
    const Stopwatch clock;
    const auto executors = pipeline.components_.load_only(group, request.progress);
    late_load_ms += clock.ms();
    for (size_t i = 0; i < group.size(); ++i) by_name[group[i].component] = executors[i];
    return *by_name.at(name);
  }

  Result run() {
    prepare();
    const Stopwatch clock;
    encode_texts();
    if (request.init_image != nullptr) {
      result.initial = encoded_start();
    } else {
      draw_start();
    }
    denoise();
    if (request.decode) {
      decode();
    } else {
      read_latents();
    }
    result.total_ms = clock.ms() - late_load_ms;
    result.times = timer.times();
    double in_networks = 0;
    for (const StageTime& time : result.times) in_networks += time.ms;
    result.times.push_back({.name = "host", .runs = 1, .ms = result.total_ms - in_networks});
    result.load_ms += late_load_ms;
    return std::move(result);
  }

  void check() const {
    check_size(request.width, request.height, facts.vae_scale_factor);
    if (request.seeds.empty()) throw Error(Errc::kInvalidArgument, "seeds: at least one is needed");
    if (request.schedule.rows.empty()) {
      throw Error(Errc::kInvalidArgument, "schedule: no step is left to run");
    }
    if (request.latents != nullptr) {
      const TensorType want{DType::kF32, {batch, facts.latent_channels, height, width}};
      if (!(request.latents->type() == want)) {
        throw Error(Errc::kInvalidArgument,
                    fmt::format("latents: got {}, wanted {}", to_string(request.latents->type()),
                                to_string(want)));
      }
    }
  }

  // --- text

  // One text for each encoder, and what messages call it.
  struct Text {
    std::array<std::string_view, 2> for_encoder;  // the first encoder's, and all others'
    std::string_view what;
  };

  [[nodiscard]] bool has_negative() const {
    return request.negative_prompt || request.negative_prompt_2;
  }

  void set_texts(size_t encoder, Executor& network, std::span<const Text> texts) {
    const text::ClipTokenizer& tokenizer = *pipeline.options_.tokenizers[encoder];
    const auto count = static_cast<int64_t>(texts.size());
    Tensor ids({DType::kI32, {count, tokenizer.max_length()}});
    Tensor ends({DType::kI32, {count}});
    auto next = ids.values<int32_t>().begin();
    for (size_t i = 0; i < texts.size(); ++i) {
      const text::ClipEncoding tokens =
          tokenizer.encode(std::string(texts[i].for_encoder[std::min<size_t>(encoder, 1)]));
      if (tokens.num_cut > 0) {
        log(pipeline.options_.logger, LogLevel::kWarning, "text",
            fmt::format("{}: {} of {} tokens do not fit {} and were cut: \"{}\"", texts[i].what,
                        tokens.num_cut, tokens.num_tokens, pipeline.family_.text_encoders[encoder],
                        tokens.cut_text));
      }
      next = std::copy(tokens.ids.begin(), tokens.ids.end(), next);
      const auto end = std::find(tokens.ids.begin() + 1, tokens.ids.end(), tokenizer.end_id());
      ends.values<int32_t>()[i] = static_cast<int32_t>(end - tokens.ids.begin());
    }
    network.set_input("input_ids", ids);
    if (network.has_input("eos_index")) network.set_input("eos_index", ends);
  }

  // An input of the denoiser that text encoders make.
  struct TextInput {
    std::unique_ptr<backend::Buffer> own{};  // where the denoiser is not loaded yet
    std::byte* data = nullptr;               // on the device
    size_t line = 0, sample = 0;             // bytes of a line of all parts, of one batch row
  };

  [[nodiscard]] static size_t line_bytes(const Executor& network, const TextPart& part) {
    const TensorType& type = network.output_type(part.output);
    check_internal(type.dtype == DType::kF32, "text encoders give f32");
    return static_cast<size_t>(type.shape.row_size()) * sizeof(float);
  }

  void place_text_inputs(std::span<Executor* const> encoders) {
    if (!text_inputs.empty()) return;
    for (const TextPart& part : pipeline.family_.text_parts) {
      const Executor& network = *encoders[part.encoder];
      const Shape& shape = network.output_type(part.output).shape;
      const size_t line = line_bytes(network, part);
      TextInput& input = text_inputs[part.input];
      input.line += line;
      input.sample += line * static_cast<size_t>(shape.num_rows() / shape[0]);
    }
    const auto denoiser = by_name.find("unet");
    for (auto& [name, input] : text_inputs) {
      if (denoiser != by_name.end()) {
        input.data = static_cast<std::byte*>(denoiser->second->input_data(name));
        continue;
      }
      input.own = pipeline.options_.device->allocate(input.sample * num_prompts() * num_images());
      input.data = static_cast<std::byte*>(input.own->data());
    }
  }

  [[nodiscard]] size_t num_prompts() const { return cfg ? 2 : 1; }
  [[nodiscard]] size_t num_images() const { return static_cast<size_t>(batch); }
  // Batch rows of the denoiser come uncond first; text 0 is the prompt.
  [[nodiscard]] size_t first_row(size_t text) const {
    return (num_prompts() - 1 - text) * num_images();
  }

  // Copies what encoders `first` to `last` - 1 made of their text `at` to where the denoiser wants
  // it of text `text`.
  void place_text(std::span<Executor* const> encoders, size_t first, size_t last, size_t at,
                  size_t text) {
    std::map<std::string_view, size_t> begun;  // bytes of the parts before
    for (const TextPart& part : pipeline.family_.text_parts) {
      const Executor& network = *encoders[part.encoder];
      const TextInput& input = text_inputs.at(part.input);
      const size_t offset = begun[part.input];
      begun[part.input] += line_bytes(network, part);
      if (part.encoder < first || part.encoder >= last) continue;
      for (size_t i = 0; i < num_images(); ++i) {
        std::byte* row = input.data + (first_row(text) + i) * input.sample;
        network.copy_output(part.output, static_cast<int64_t>(at), row + offset, input.line);
      }
    }
  }

  // An absent negative prompt.
  void place_zeros() {
    for (const auto& [name, input] : text_inputs) {
      const std::vector<std::byte> zeros(input.sample * num_images());
      pipeline.options_.device->upload(input.data + first_row(1) * input.sample, zeros.data(),
                                       zeros.size());
    }
  }

  // Runs the encoders on texts[first...], side by side where they can be (one row of the times
  // then).
  void embed(std::span<const Text> texts, size_t first_text) {
    const Family& family = pipeline.family_;
    std::vector<Executor*> networks;
    for (const std::string_view name : family.text_encoders) networks.push_back(&executor(name));
    place_text_inputs(networks);
    const bool overlap = std::ranges::any_of(networks, &Executor::is_beside);
    const size_t group = overlap ? networks.size() : 1;
    for (size_t first = 0; first < networks.size(); first += group) {
      timer.begin();
      std::string label;
      for (size_t i = first; i < first + group; ++i) {
        set_texts(i, *networks[i], texts);
        label.append(label.empty() ? "" : "+").append(family.text_labels[i]);
      }
      Executor::start_together(std::span(networks).subspan(first, group));
      use_waiting_time();
      for (size_t t = 0; t < texts.size(); ++t) {
        place_text(networks, first, first + group, t, first_text + t);
      }
      timer.end(label, 1);
    }
  }

  void encode_texts() {
    const auto num_texts = static_cast<int>(num_prompts());
    report(request.progress, "text", 0, num_texts);
    std::vector<Text> texts{{{request.prompt, request.prompt_2}, "prompt"}};
    const bool zeros = cfg && !has_negative() && pipeline.zeros_for_no_negative();
    if (cfg && !zeros) {
      std::array<std::string_view, 2> negative;
      if (request.negative_prompt) negative.fill(*request.negative_prompt);
      if (request.negative_prompt_2) negative[1] = *request.negative_prompt_2;
      texts.push_back({negative, "negative prompt"});
    }
    const auto at_once = static_cast<size_t>(pipeline.texts_at_once(cfg, has_negative()));
    for (size_t i = 0; i < texts.size(); i += at_once) {
      if (i > 0) report(request.progress, "text", static_cast<int>(i), num_texts);
      embed(std::span(texts).subspan(i, at_once), i);
    }
    if (zeros) place_zeros();
    report(request.progress, "text", num_texts, num_texts);
  }

  // --- start

  Tensor draw() {
    if (request.latents != nullptr) return request.latents->clone();
    return noise.draw_nchw(facts.latent_channels, height, width);
  }

  // Where noise is all that denoising starts from.
  void draw_start() {
    if (result.initial.data() != nullptr) return;
    result.initial = draw();
    for (float& v : result.initial.values<float>()) v *= request.schedule.init_noise_sigma;
  }

  // While the device encodes the text, the host brings what the denoiser reads beside it.
  void use_waiting_time() {
    if (request.init_image != nullptr) return;
    draw_start();
    if (const auto found = by_name.find("unet"); found != by_name.end()) feed(*found->second);
  }

  // The picture's latent, sampled from the encoder's distribution as diffusers does (the first draw
  // of the generators), then noised to where the schedule starts.
  Tensor encoded_start() {
    Executor& encoder = executor("vae_encoder");
    timer.begin();
    report(request.progress, "encode", 0, 1);
    encoder.set_input("image", *request.init_image);
    encoder.run_step();
    const Tensor mean = nhwc_to_nchw(encoder.output("mean"));
    const Tensor logvar = nhwc_to_nchw(encoder.output("logvar"));
    timer.end("vae_encoder", 1);
    report(request.progress, "encode", 1, 1);

    const Tensor sample = noise.draw_nchw(facts.latent_channels, height, width);
    Tensor x = draw();
    const auto row = request.schedule.rows.front();
    const auto signal = static_cast<float>(row.signal_scale);
    const auto level = static_cast<float>(row.noise_scale);
    const auto scale = static_cast<float>(facts.scaling_factor);
    const auto shift = static_cast<float>(facts.shift_factor);
    const auto means = mean.values<float>();
    const auto logvars = logvar.values<float>();
    const auto draws = sample.values<float>();
    auto values = x.values<float>();
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t j = i % means.size();  // one picture for the whole batch
      const float deviation = std::exp(0.5F * std::clamp(logvars[j], -30.0F, 20.0F));
      const float clean = (means[j] + deviation * draws[i] - shift) * scale;
      values[i] = signal * clean + level * values[i];
    }
    return x;
  }

  // --- steps

  void set_timestep(Executor& unet, size_t row) const {
    const float timestep = request.schedule.rows[row].timestep;
    unet.set_input("timestep", Tensor::from({1}, std::span(&timestep, 1)));
  }

  // Sets what the first step reads beside the text, once.
  void feed(Executor& unet) {
    if (std::exchange(is_fed, true)) return;
    const std::array sizes = {request.negative_size, request.size};
    const Conditioning conditioning =
        pipeline.family_.condition(std::span(sizes).last(num_prompts()), batch);
    for (const auto& [name, value] : conditioning) unet.set_input(name, value);
    set_timestep(unet, 0);
    Tensor state = Tensor::zeros(unet.input_type("state"));
    const Tensor start = nchw_to_nhwc(result.initial);
    std::ranges::copy(start.values<float>(), state.values<float>().begin());
    unet.set_input("state", state);
    unet.set_input("noise", Tensor::zeros(unet.input_type("noise")));
  }

  // Enqueues what the first step waits for.
  void set_up(Executor& unet, int num_ahead) {
    timer.begin();
    feed(unet);
    for (const auto& [name, input] : text_inputs) {
      if (!input.own) continue;
      pipeline.options_.device->copy(unet.input_data(name), input.data, input.own->size(),
                                     *pipeline.stream_);
    }
    unet.run_prompt();
    for (int i = 0; i < num_ahead; ++i) {
      if (i > 0) set_timestep(unet, static_cast<size_t>(i));
      unet.run_schedule(i);
    }
    unet.join();
    timer.end("unet setup", 1);
  }

  // Leaves the latent on the device.
  void denoise() {
    Executor& unet = executor("unet");
    const auto& rows = request.schedule.rows;
    const auto num_rows = static_cast<int>(rows.size());
    // Rows that can run beside a step are scheduled one ahead of theirs.
    const int num_ahead = unet.schedules_beside() ? 1 : num_rows;
    set_up(unet, num_ahead);
    timer.begin();
    report(request.progress, "denoise", 0, num_rows);
    size_t before = 0;
    for (int i = 0; i < num_rows; ++i) {
      // The host is one step ahead of the device, so that it tells the truth of the progress.
      const size_t here = timer.mark();
      if (i > 0) timer.wait_for(before);
      before = here;
      if (i + 1 >= num_ahead && i + 1 < num_rows) {
        set_timestep(unet, static_cast<size_t>(i) + 1);
        unet.run_schedule(i + 1);
      }
      step(unet, rows[static_cast<size_t>(i)], i);
      report(request.progress, "denoise", i + 1, num_rows);
    }
    latent_bytes =
        sizeof(float) * num_images() * static_cast<size_t>(height * width * facts.latent_channels);
    latents = pipeline.options_.device->allocate(latent_bytes);
    unet.copy_output("state", 0, latents->data(),
                     static_cast<size_t>(facts.latent_channels) * sizeof(float));
    if (pipeline.side_) pipeline.side_->wait_for(*pipeline.stream_);
    timer.end(pipeline.family_.denoiser_label, num_rows);
  }

  // What denoising left, without a wait for what was enqueued since.
  void read_latents() {
    Tensor latent({DType::kF32, {batch, height, width, facts.latent_channels}});
    backend::Stream& stream = pipeline.side_ ? *pipeline.side_ : *pipeline.stream_;
    pipeline.options_.device->download_behind(stream, latent.data(), latents->data(), latent_bytes);
    if (!all_finite(latent.values<float>())) fail_numeric("the denoised latent", "unet");
    result.latents = nhwc_to_nchw(latent);
  }

  void step(Executor& unet, const diffusion::ScheduleRow& row, int index) {
    StepCoefficients coefficients = row.coefficients;
    coefficients.guidance = static_cast<float>(request.guidance);
    Tensor values({DType::kF32, {kNumStepCoefficients}});
    std::memcpy(values.data(), &coefficients, sizeof(coefficients));
    unet.set_input("coefficients", values);
    if (row.uses_noise) {
      unet.set_input("noise", nchw_to_nhwc(noise.draw_nchw(facts.latent_channels, height, width)));
    }
    unet.run_step(index);
    if (request.on_step) request.on_step(index, unet);
    unet.feed_back("state", "state");
  }

  // --- image

  void decode() {
    Executor& decoder = executor("vae_decoder");
    result.rgb.resize(static_cast<size_t>(batch));
    std::vector<size_t> not_finite;
    for (size_t i = 0; i < result.rgb.size(); ++i) {
      report(request.progress, "decode", static_cast<int>(i), static_cast<int>(batch));
      if (!decode_one(decoder, i)) not_finite.push_back(i);
    }
    // After all others, as the decoder of another precision may take this one's memory.
    if (!not_finite.empty()) decode_in_fp32(not_finite);
    report(request.progress, "decode", static_cast<int>(batch), static_cast<int>(batch));
  }

  // Writes image `index`; false when it holds a value that is not finite.
  bool decode_one(Executor& decoder, size_t index) {
    timer.begin();
    const size_t one = latent_bytes / num_images();
    pipeline.options_.device->copy(decoder.input_data("latent"),
                                   static_cast<const std::byte*>(latents->data()) + index * one,
                                   one, *pipeline.stream_);
    decoder.run_step();
    if (result.latents.data() == nullptr) read_latents();
    if (request.on_decode) request.on_decode(decoder);
    std::vector<uint8_t>& rgb = result.rgb[index];  // takes its memory while the device decodes
    rgb.resize(static_cast<size_t>(request.height * request.width * 3));
    decoder.read_output("rgb", std::as_writable_bytes(std::span(rgb)));
    float flag = 0;
    decoder.read_output("not_finite", std::as_writable_bytes(std::span(&flag, 1)));
    timer.end("vae", 1);
    return flag == 0.0F;
  }

  // Latents are finite here, so a decoder of fp32 leaves nothing to try.
  void decode_in_fp32(const std::vector<size_t>& images) {
    constexpr std::string_view kDecoder = "vae_decoder";
    const auto use = std::ranges::find(result.plans, kDecoder, &Components::Use::component);
    const std::string precision = use->plan->fingerprint.entry("precision");
    if (precision == "fp32") fail_numeric("the decoded image", kDecoder);
    log(pipeline.options_.logger, LogLevel::kWarning, "pipeline",
        fmt::format("numeric: the VAE's output in {} is not finite: {} of {} images are decoded "
                    "again in fp32; --vae-precision fp32 decodes them so at once",
                    precision, images.size(), batch));
    auto again = pipeline.wanted(request.width, request.height, batch, cfg, true, false);
    std::erase_if(again, [&](const auto& item) { return item.component != kDecoder; });
    again.front().fp32 = true;
    Components& components = pipeline.components_;
    auto executors = components.prepare(again, request.progress);
    if (pipeline.options_.low_vram) executors = components.load_only(again, request.progress);
    Executor& decoder = *executors.front();
    result.plans.push_back(components.last_uses().front());
    result.load_ms += components.last_load_ms();
    result.build_ms += components.last_build_ms();
    for (const size_t i : images) {
      if (!decode_one(decoder, i)) fail_numeric("the decoded image", kDecoder);
    }
  }

  [[noreturn]] void fail_numeric(std::string_view what, std::string_view component) const {
    const std::string text = fmt::format(
        "numeric: {} has values that are not finite (component {}); try --precision fp32", what,
        component);
    log(pipeline.options_.logger, LogLevel::kWarning, "pipeline", text);
    throw Error(Errc::kInternal, text);
  }

  Pipeline& pipeline;
  const ModelFacts& facts;
  const Request& request;
  int64_t batch, height, width;
  bool cfg;
  BatchNoise noise;
  StageTimer timer;
  bool is_fed = false;                                // feed() was called
  std::map<std::string_view, TextInput> text_inputs;  // by name
  std::unique_ptr<backend::Buffer> latents;           // f32[n, h, w, c] on the device, denoised
  size_t latent_bytes = 0;
  std::vector<Components::Wanted> wanted;
  std::map<std::string, Executor*> by_name;  // what is loaded
  double late_load_ms = 0;                   // after prepare()
  Result result;
};

Result Pipeline::generate(const Request& request) { return Run(*this, request).run(); }

void Pipeline::prepare(const Request& request) { Run(*this, request).prepare(); }

}  // namespace halftone::pipeline
