#include "request_options.h"

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include <fmt/format.h>

#include "halftone/utf8.h"

namespace halftone::cli {
namespace {

namespace fs = std::filesystem;

// TensorRT's demo and short names for well-known models.
struct ModelAlias {
  std::string_view name, id;
};
constexpr std::array kModelAliases = {
    ModelAlias{"xl-1.0", "stabilityai/stable-diffusion-xl-base-1.0"},
    ModelAlias{"xl-turbo", "stabilityai/sdxl-turbo"},
    ModelAlias{"1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5"},
};

// sd.cpp's words for --scheduler, which name sigma schedules there.
constexpr std::array<std::string_view, 8> kSigmaWords = {
    "discrete", "karras", "exponential", "beta", "leading", "trailing", "linspace", "sgm-uniform"};

bool is_sigma_word(const std::string& word) {
  return std::find(kSigmaWords.begin(), kSigmaWords.end(), normalise_name(word)) !=
         kSigmaWords.end();
}

Precision parse_precision(const std::string& text, std::string_view flag) {
  if (text == "auto") return Precision::kAuto;
  if (text == "fp32" || text == "f32") return Precision::kF32;
  if (text == "bf16") return Precision::kBF16;
  if (text == "fp16" || text == "f16") return Precision::kF16;
  if (text == "int8") return Precision::kI8;
  if (text == "fp8") return Precision::kF8;
  throw UsageError(fmt::format(
      "not supported: {} {}: this version has fp32, bf16, fp16, int8, fp8 and auto", flag, text));
}

std::vector<double> parse_list(std::string_view text, std::string_view flag) {
  std::vector<double> values;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    values.push_back(parse_number(text.substr(0, comma), flag));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return values;
}

Rng parse_rng(const std::string& text) {
  if (text == "cuda") return Rng::kCuda;
  if (text == "cpu") return Rng::kCpu;
  throw UsageError(fmt::format(
      "--rng: got '{}', wanted cuda or cpu (sd.cpp's std_default is not a torch generator)", text));
}

std::array<int, 2> swap(std::array<int, 2> pair) { return {pair[1], pair[0]}; }

constexpr size_t kMaxTextFile = size_t{16} << 20;

std::string read_all(std::istream& in, const std::string& name) {
  std::string text;
  std::array<char, 65536> chunk{};
  while (in.read(chunk.data(), chunk.size()) || in.gcount() > 0) {
    text.append(chunk.data(), static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxTextFile) throw UsageError(fmt::format("{}: longer than 16 MiB", name));
  }
  return text;
}

std::string read_file(const std::string& path, std::string_view flag) {
  std::ifstream file(path, std::ios::binary);
  std::string text = read_all(file, path);
  // A folder opens and then cannot be read.
  if (!file.is_open() || file.bad()) {
    throw UsageError(fmt::format("{} {}: cannot be read", flag, path));
  }
  return text;
}

// `name` of the file, for messages.
void check_utf8(std::string_view line, const std::string& name, int number) {
  const std::optional<size_t> at = malformed_utf8(line);
  if (!at) return;
  throw UsageError(fmt::format("{}: line {}: malformed UTF-8 at byte {} (0x{:02x})", name, number,
                               *at, static_cast<unsigned char>(line[*at])));
}

void append_lines(const std::string& text, const std::string& name,
                  std::vector<std::string>& prompts) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // as editors of Windows put it
  size_t begin = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  for (int number = 1; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    check_utf8(line, name, number);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) prompts.push_back(std::move(line));
    begin = end + 1;
  }
}

bool given(const CLI::App& app, const std::string& name) { return app.count(name) > 0; }

void choose_scheduler(const RequestArgs& args, GenerateOptions& options) {
  options.sigma_schedule = normalise_name(args.sigma_schedule);
  const bool is_sd_cpp = !args.sampling_method.empty();
  options.scheduler = is_sd_cpp ? args.sampling_method : args.scheduler;
  if (is_sd_cpp ? !args.scheduler.empty() : is_sigma_word(args.scheduler)) {
    const std::string word = normalise_name(args.scheduler);  // sd.cpp's --scheduler: the sigmas
    if (!options.sigma_schedule.empty() && options.sigma_schedule != word) {
      throw UsageError(fmt::format(
          "--scheduler {} and --sigma-schedule {} both name the sigma schedule; give one", word,
          options.sigma_schedule));
    }
    if (!is_sd_cpp) options.scheduler.clear();
    options.sigma_schedule = word;
  }
  if (options.sigma_schedule == "discrete") options.sigma_schedule.clear();  // the model's own
  if (options.sigma_schedule == "sgm-uniform") options.sigma_schedule = "trailing";
}

void add_sampling_options(CLI::App& app, RequestArgs& a) {
  app.add_option("--steps,--denoising-steps,--num-inference-steps", a.steps, "Denoising steps")
      ->check(CLI::Range(1, 1000))
      ->group("Sampling");
  app.add_option("--cfg-scale,--guidance-scale", a.cfg_scale, "Guidance; 1 or less = none")
      ->group("Sampling");
  app.add_option("--seed,-s", a.seed, "-1 = random; image i uses seed + i")->group("Sampling");
  app.add_option("--rng", a.rng, "cuda or cpu: whose noise a seed means")->group("Sampling");
  app.add_option("--batch-size,--batch,--num-images-per-prompt", a.batch_size,
                 "Images denoised together")
      ->check(CLI::Range(1, 64))
      ->group("Sampling");
  app.add_option("--batch-count,-b", a.batch_count, "Repetitions")
      ->check(CLI::Range(1, 100000))
      ->group("Sampling");
  app.add_option("--scheduler", a.scheduler, "Scheduler, or sigma schedule (sd.cpp's meaning)")
      ->group("Sampling");
  app.add_option("--sampling-method", a.sampling_method,
                 "sd.cpp's name of the scheduler; --scheduler then names the sigma schedule")
      ->group("Sampling");
  app.add_option("--sigma-schedule", a.sigma_schedule,
                 "leading, trailing, linspace, karras, exponential or beta")
      ->group("Sampling");
  app.add_option("--sigmas", a.sigmas, "Comma-separated noise levels")->group("Sampling");
  app.add_option("--timesteps", a.timesteps, "Comma-separated timesteps")->group("Sampling");
  app.add_option("--eta", a.eta, "DDIM's noise, 0..1")->group("Sampling");
  app.add_option("--flow-shift", a.flow_shift, "Shift of flow matching")->group("Sampling");
  app.add_option("--latents", a.latents, "safetensors with tensor 'latents': start noise")
      ->group("Sampling");
  app.add_option("--dump-latents", a.dump_latents,
                 "safetensors to write: initial and final latents; several prompts get _1, _2")
      ->group("Sampling");
}

}  // namespace

std::optional<uint64_t> parse_seed(const std::string& text) {
  if (text == "-1") return std::nullopt;
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) {
    throw UsageError(
        fmt::format("--seed: got '{}', wanted -1 (random) or a number below 2^64", text));
  }
  return value;
}

std::array<int, 2> parse_size(const std::string& text, std::string_view flag) {
  const size_t cross = text.find_first_of("xX,");
  if (cross == std::string::npos) {
    throw UsageError(fmt::format("{}: got '{}', wanted two numbers such as 512x768", flag, text));
  }
  std::array<int, 2> pair{};
  const std::array<std::string_view, 2> parts = {std::string_view(text).substr(0, cross),
                                                 std::string_view(text).substr(cross + 1)};
  for (size_t i = 0; i < 2; ++i) {
    const auto [end, code] =
        std::from_chars(parts[i].data(), parts[i].data() + parts[i].size(), pair[i]);
    if (code != std::errc() || end != parts[i].data() + parts[i].size() || pair[i] < 0) {
      throw UsageError(fmt::format("{}: got '{}', wanted two numbers such as 512x768", flag, text));
    }
  }
  return pair;
}

namespace {

// How the model's plans are compiled and run.
void add_execution_options(CLI::App& app, ModelArgs& args) {
  constexpr const char* kGroup = "Model";
  app.add_flag("--no-cuda-graph,--noCudaGraph", args.no_cuda_graph,
               "On a GPU: launch every kernel by itself instead of replaying a recorded graph")
      ->group(kGroup);
  app.add_flag("--low-vram", args.low_vram,
               "Load text encoders, denoiser and VAE one after the other and free each")
      ->group(kGroup);
  app.add_option("--memory-limit", args.memory_limit,
                 "MiB of device memory to use at most (exit code 4 when it is too little)")
      ->check(CLI::Range(0.0, 1e9))
      ->group(kGroup);
  app.add_flag("--reference-check", args.reference_check,
               "Run every node beside its reference once and list the worst (slow; exit code 7)")
      ->group(kGroup);
  app.add_option("--disable-pass", args.disabled_passes,
                 "Leave out a pass of the graph compiler, e.g. subpixel_upsample; repeatable")
      ->group(kGroup);
  app.add_option("--disable-kernel", args.disabled_kernels,
                 "Leave out a kernel by name, or all with a prefix: cuda.linear.*; repeatable")
      ->group(kGroup);
  app.add_flag("--no-launch-overlap", args.no_launch_overlap,
               "On a GPU: start a kernel only when the one before it has ended")
      ->group(kGroup);
}

}  // namespace

void add_model_options(CLI::App& app, ModelArgs& args) {
  constexpr const char* kGroup = "Model";
  app.add_option("--model,-m,--framework-model-dir", args.model,
                 "Folder, .safetensors file, name in --models-dir or ORG/NAME in the HF cache")
      ->group(kGroup);
  app.add_option("--version", args.version, "Model by TensorRT's name: xl-1.0, xl-turbo, 1.5")
      ->group(kGroup);
  app.add_option("--variant", args.variant, "Weight files to take: fp16, bf16")->group(kGroup);
  app.add_option("--unet", args.unet, "Folder that replaces the model's unet")->group(kGroup);
  app.add_option("--vae", args.vae, "Folder that replaces the model's vae")->group(kGroup);
  app.add_option("--text-encoder", args.text_encoder, "Folder that replaces the first text encoder")
      ->group(kGroup);
  app.add_option("--text-encoder-2", args.text_encoder_2,
                 "Folder that replaces the second text encoder")
      ->group(kGroup);
  app.add_option("--model-config", args.model_config,
                 "Diffusers folder with the configs and tokenizer of a single-file model")
      ->group(kGroup);
  app.add_option(
         "--lora", args.loras,
         "PATH[:WEIGHT] of a LoRA to add to the weights (1 when not given); may be repeated")
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_option(
         "--precision,--type", args.precision,
         "auto, fp32, bf16, fp16, int8 or fp8; auto = the quantized form that the model's folder "
         "holds, else bf16 where the CPU multiplies it natively, fp16 on a GPU")
      ->group(kGroup);
  app.add_option(
         "--vae-precision", args.vae_precision,
         "auto (as --precision; bf16 with fp16), fp32, bf16, fp16, or int8 or fp8 (the decoder's "
         "convolutions)")
      ->group(kGroup);
  add_execution_options(app, args);
  app.add_option("--engine-dir", args.engine_dir, "Folder that keeps the plans; made when missing")
      ->group(kGroup);
  app.add_option("--plan,--loadEngine", args.plan,
                 "Plan file of the unet, or folder with those of all components (build --save); "
                 "must fit (exit code 6)")
      ->group(kGroup);
  add_quant_options(app, args.quant);
}

void add_request_options(CLI::App& app, RequestArgs& a) {
  app.add_option("prompts", a.positionals, "Prompts; @FILE = one a line, - = stdin");
  app.add_option("--prompt,-p", a.prompts, "A prompt; may be repeated")
      ->allow_extra_args(false)
      ->group("Prompt");
  app.add_option("--prompt-file,--prompts-file", a.prompt_file, "Prompts, one a line; - = stdin")
      ->group("Prompt");
  app.add_option("--prompt-2", a.prompt_2, "Prompt of the second text encoder")->group("Prompt");
  app.add_option("--negative-prompt,-n", a.negative_prompt,
                 "What to avoid; absent is not the same as empty")
      ->group("Prompt");
  app.add_option("--negative-prompt-2", a.negative_prompt_2, "For the second text encoder")
      ->group("Prompt");
  app.add_option("--negative-prompt-file", a.negative_prompt_file, "Negative prompt from a file")
      ->group("Prompt");

  app.add_option("--width,-W", a.width, "Pixels, a multiple of 8")->group("Image");
  app.add_option("--height,-H", a.height, "Pixels, a multiple of 8")->group("Image");
  app.add_option("--size", a.size, "WxH")->group("Image");
  app.add_option("--original-size", a.original_size, "SDXL's conditioning, WxH")->group("Image");
  app.add_option("--target-size", a.target_size, "SDXL's conditioning, WxH")->group("Image");
  app.add_option("--crop-top-left", a.crop_top_left, "SDXL's conditioning, TOP,LEFT")
      ->group("Image");
  app.add_option("--init-img,-i", a.init_image, "PNG to start from")->group("Image");
  app.add_option("--strength", a.strength, "0..1: how far to move away from --init-img")
      ->check(CLI::Range(0.0, 1.0))
      ->group("Image");
  app.add_option("--output-type", a.output_type, "image (or pil) or latent")
      ->check(CLI::IsMember({"image", "pil", "latent"}))
      ->group("Image");
  add_sampling_options(app, a);
}

// "PATH[:WEIGHT]". What follows the last colon must be a number, unless the whole is a path.
LoraOption parse_lora(const std::string& text) {
  std::error_code ignored;
  const size_t colon = text.rfind(':');
  LoraOption lora{.path = text};
  if (colon != std::string::npos && !fs::exists(text, ignored)) {
    lora.path = text.substr(0, colon);
    lora.weight = parse_number(std::string_view(text).substr(colon + 1), "--lora");
  }
  if (lora.path.empty()) throw UsageError("--lora: got no path, wanted PATH[:WEIGHT]");
  if (!fs::exists(lora.path, ignored)) {
    const std::string own = bundled_folder(lora.path, "pytorch_lora_weights.safetensors");
    if (!own.empty()) lora.path = own;
  }
  return lora;
}

namespace {

// A folder that cannot be made is told of once, and done without.
std::string usable_cache(const std::string& folder, const Logger& logger) {
  std::error_code failed;
  if (folder.empty() || fs::is_directory(folder, failed)) return folder;
  fs::create_directories(folder, failed);
  if (!failed) return folder;
  log(logger, LogLevel::kWarning, "cache",
      fmt::format("cache folder {}: cannot be made ({}); nothing is kept", folder,
                  failed.message()));
  return "";
}

void check_scheme(Precision precision, const std::string& scheme) {
  if (!differ_in_format(to_string(precision), scheme)) return;
  throw UsageError(fmt::format("--precision {} and --quant-type {} contradict each other; give one",
                               to_string(precision), scheme));
}

}  // namespace

SessionOptions session_options(const ModelArgs& args, const CommonOptions& common) {
  if (!args.version.empty() && !args.model.empty()) {
    throw UsageError("--version and --model both name a model; give one");
  }
  const std::string typed = args.model.empty() ? args.version : args.model;
  SessionOptions options;
  options.precision = parse_precision(args.precision, "--precision");
  options.vae_precision = parse_precision(args.vae_precision, "--vae-precision");
  options.quantization = quantization_options(args.quant, is_quantized(options.vae_precision));
  check_scheme(options.precision, options.quantization.scheme);
  options.logger = make_logger(common);
  options.model = {.model = resolve_model(typed, common),
                   .variant = args.variant,
                   .hf_cache = common.hf_cache,
                   .component_folders = {},
                   .config_folder = args.model_config,
                   .clip_vocab = bundled_folder("clip-bpe", "vocab.json")};
  const std::array<std::pair<const char*, const std::string*>, 4> folders = {
      {{"unet", &args.unet},
       {"vae", &args.vae},
       {"text_encoder", &args.text_encoder},
       {"text_encoder_2", &args.text_encoder_2}}};
  for (const auto& [component, folder] : folders) {
    if (!folder->empty()) options.model.component_folders[component] = *folder;
  }
  for (const std::string& lora : args.loras) options.model.loras.push_back(parse_lora(lora));
  options.device = common.device;
  options.threads = common.threads;
  options.cache_dir = usable_cache(common.cache_dir, options.logger);
  options.device_graphs = !args.no_cuda_graph;
  options.low_vram = args.low_vram;
  options.memory_limit = static_cast<uint64_t>(args.memory_limit * 1048576.0);
  options.reference_check = args.reference_check;
  options.overlap_launches = !args.no_launch_overlap;
  options.disabled_passes = args.disabled_passes;
  options.disabled_kernels = args.disabled_kernels;
  options.plan = args.plan;
  if (!args.engine_dir.empty()) {
    if (!args.plan.empty()) throw UsageError("--plan and --engine-dir both name plans; give one");
    options.engine_dir = args.engine_dir;
  }
  options.progress = make_progress(common);
  return options;
}

std::array<int, 2> picture_size(const CLI::App& app, const std::string& size, int width,
                                int height) {
  constexpr int kMost = 8192;
  std::array<int, 2> pair = {width, height};
  if (!size.empty()) {
    if (given(app, "--width") || given(app, "--height")) {
      throw UsageError("--size and --width/--height both set the size; give one");
    }
    pair = parse_size(size, "--size");
  }
  const std::array<const char*, 2> flags = {"--width", "--height"};
  for (size_t i = 0; i < 2; ++i) {
    if (size.empty() && !given(app, flags[i])) continue;
    if (pair[i] >= 1 && pair[i] <= kMost) continue;
    throw UsageError(fmt::format("{}: got {}, wanted 1 to {} pixels",
                                 size.empty() ? flags[i] : "--size", pair[i], kMost));
  }
  return pair;
}

GenerateOptions generate_options(const CLI::App& app, const RequestArgs& args) {
  GenerateOptions options;
  if (given(app, "--prompt-2")) options.prompt_2 = args.prompt_2;
  if (given(app, "--negative-prompt")) options.negative_prompt = args.negative_prompt;
  if (given(app, "--negative-prompt-2")) options.negative_prompt_2 = args.negative_prompt_2;
  if (given(app, "--negative-prompt-file")) {
    std::string text = read_file(args.negative_prompt_file, "--negative-prompt-file");
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    if (options.negative_prompt) {
      throw UsageError(
          "--negative-prompt and --negative-prompt-file both give the negative prompt; give one");
    }
    std::istringstream lines(text);
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      check_utf8(line, args.negative_prompt_file, ++number);
    }
    options.negative_prompt = std::move(text);
  }
  const auto [width, height] = picture_size(app, args.size, args.width, args.height);
  options.width = width;
  options.height = height;
  if (!args.original_size.empty()) {
    options.original_size = swap(parse_size(args.original_size, "--original-size"));
  }
  if (!args.target_size.empty()) {
    options.target_size = swap(parse_size(args.target_size, "--target-size"));
  }
  if (!args.crop_top_left.empty()) {
    options.crop_top_left = parse_size(args.crop_top_left, "--crop-top-left");
  }
  options.steps = args.steps;
  if (given(app, "--cfg-scale")) options.guidance = args.cfg_scale;
  options.seed = parse_seed(args.seed);
  options.rng = parse_rng(args.rng);
  options.batch_size = args.batch_size;
  options.batch_count = args.batch_count;
  choose_scheduler(args, options);
  if (given(app, "--eta")) options.eta = args.eta;
  if (given(app, "--flow-shift")) options.flow_shift = args.flow_shift;
  options.sigmas = parse_list(args.sigmas, "--sigmas");
  options.timesteps = parse_list(args.timesteps, "--timesteps");
  options.init_image = args.init_image;
  if (given(app, "--strength")) options.strength = args.strength;
  options.latents = args.latents;
  options.dump_latents = args.dump_latents;
  options.output_type = args.output_type == "latent" ? OutputType::kLatent : OutputType::kImage;
  return options;
}

std::vector<std::string> read_prompts(const RequestArgs& args) {
  std::vector<std::string> prompts;
  const auto add = [&](const std::string& text) {
    if (text == "-") {
      append_lines(read_all(std::cin, "stdin"), "stdin", prompts);
    } else if (text.size() > 1 && text[0] == '@') {
      append_lines(read_file(text.substr(1), "prompt file"), text.substr(1), prompts);
    } else {
      prompts.push_back(text);
    }
  };
  for (const std::string& text : args.positionals) add(text);
  for (const std::string& text : args.prompts) add(text);
  if (args.prompt_file == "-") {
    add("-");
  } else if (!args.prompt_file.empty()) {
    append_lines(read_file(args.prompt_file, "--prompt-file"), args.prompt_file, prompts);
  }
  return prompts;
}

std::string bundled_folder(std::string_view name, std::string_view marker) {
  std::error_code ignored;
  const fs::path bin = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  // Installed, or build/<preset>/bin of the source tree.
  for (const char* models : {"../share/halftone/models", "../../../models"}) {
    const fs::path place = bin / models / name;
    if (fs::exists(place / marker, ignored)) return fs::weakly_canonical(place).string();
  }
  return "";
}

std::string resolve_model(const std::string& typed, const CommonOptions& common) {
  constexpr std::string_view kMarker = "model_index.json";
  std::error_code ignored;
  if (!typed.empty()) {
    if (fs::exists(typed, ignored)) return typed;
    if (!common.models_dir.empty()) {
      const fs::path inside = fs::path(common.models_dir) / typed;
      if (fs::exists(inside, ignored)) return inside.string();
    }
    for (const ModelAlias& alias : kModelAliases) {
      if (typed == alias.name) return std::string(alias.id);
    }
    const bool is_name = typed.find('/') == std::string::npos && typed.front() != '.';
    const std::string bundled = is_name ? bundled_folder(typed, kMarker) : "";
    return bundled.empty() ? typed : bundled;
  }
  constexpr std::string_view kDefault = "emoji-xl";
  if (!common.models_dir.empty()) {
    const fs::path inside = fs::path(common.models_dir) / kDefault;
    if (fs::exists(inside / kMarker, ignored)) return inside.string();
  }
  const std::string bundled = bundled_folder(kDefault, kMarker);
  if (!bundled.empty()) return bundled;
  throw Error(
      Errc::kNotFound,
      "the model emoji-xl that comes with Halftone was not found beside the program; give a "
      "model with -m, or make one: halftone models random --family sdxl --tiny --out DIR");
}

}  // namespace halftone::cli
