#include "workflow/compare/clip_score.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/text.h"
#include "io/checkpoint.h"
#include "models/check_weights.h"
#include "models/registry.h"
#include "runtime/executor.h"
#include "text/clip_tokenizer.h"
#include "workflow/compare/clip_preprocess.h"
#include "workflow/graph_plan.h"

namespace halftone::workflow {
namespace {

constexpr std::string_view kClass = "CLIPModel";

// Where both towers are known to be; else the error names the class that was found.
void check_class(const JsonView& config) {
  const std::string name = models::class_name_of(config.value());
  if (name == kClass) return;
  throw Error(Errc::kUnsupported,
              fmt::format("{}: key 'architectures': got '{}', wanted '{}'; give the folder of a "
                          "whole CLIPModel, text and picture tower",
                          config.file(), printable(name), kClass),
              ErrorDetails{.file = config.file(),
                           .key = "architectures",
                           .got = printable(name),
                           .wanted = std::string(kClass),
                           .remedy = "give the folder of a whole CLIPModel"});
}

double dot(const std::vector<float>& x, const std::vector<float>& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double a = x[i], b = y[i];
    sum += a * b;
  }
  return sum;
}
double length(const std::vector<float>& x) { return std::sqrt(dot(x, x)); }

}  // namespace

struct ClipScorer::Impl {
  Impl(backend::Device& d, const std::filesystem::path& folder, Logger l)
      : device(d), logger(std::move(l)) {
    checkpoint = io::Checkpoint::open_clip(folder, {.logger = logger});
    const JsonView config = checkpoint->config("clip");
    check_class(config);
    models::check_weights("clip", kClass, config, *checkpoint, checkpoint->tensor_names("clip"));
    const auto number = [&](std::string_view part, const char* key) {
      return std::stoll(models::metadata(part, kClass, config).at(key));
    };
    preprocess.emplace(checkpoint->find_config("preprocessor"),
                       number("clip_vision", "image_size"));
    tokenizer.emplace(
        text::ClipTokenizer::load(folder, {.max_positions = number("clip_text", "max_tokens"),
                                           .embedding_rows = number("clip_text", "vocab_size")}));
    const int64_t end = number("clip_text", "eos_token_id");
    if (tokenizer->end_id() == end) return;
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: key 'text_config.eos_token_id': is {}, but the tokenizer of this "
                            "folder ends texts with {}; the tokenizer is another model's",
                            config.file(), end, tokenizer->end_id()),
                ErrorDetails{.file = config.file(),
                             .key = "text_config.eos_token_id",
                             .got = fmt::format("{}", tokenizer->end_id()),
                             .wanted = fmt::format("{}", end),
                             .remedy = "give the model its own tokenizer files"});
  }

  [[nodiscard]] std::unique_ptr<runtime::Executor> load(const std::string& part) const {
    const models::BuildShape shape{.text_tokens = tokenizer->max_length()};
    graph::Graph graph = models::build(part, kClass, checkpoint->config("clip"), shape, {});
    auto executor = std::make_unique<runtime::Executor>(
        plan_of_graph(device, part, std::move(graph), {}), 0, device, *checkpoint);
    checkpoint->check_unchanged();
    return executor;
  }

  // The result of a tower that was given its inputs.
  [[nodiscard]] std::vector<float> run(runtime::Executor& tower, std::string_view what) const {
    tower.run_step();
    tower.synchronize();
    const Tensor pooled = tower.output("pooled");
    const std::span<const float> values = pooled.values<float>();
    std::vector<float> embedding(values.begin(), values.end());
    const double norm = length(embedding);
    if (norm > 0 && std::isfinite(norm)) return embedding;
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: the embedding of a {} has length {}, wanted a finite number above "
                            "0; the weights hold values that are not finite, or none",
                            checkpoint->path().string(), what, norm));
  }

  backend::Device& device;
  Logger logger;
  std::shared_ptr<const io::Checkpoint> checkpoint;
  std::optional<ClipPreprocessor> preprocess;
  std::optional<text::ClipTokenizer> tokenizer;
  std::unique_ptr<runtime::Executor> vision, text;
  // Of the last text: both sides of a comparison have the same.
  std::string prompt;
  std::vector<float> prompt_embedding;
};

ClipScorer::ClipScorer(backend::Device& device, const std::filesystem::path& folder, Logger logger)
    : impl_(std::make_unique<Impl>(device, folder, std::move(logger))) {}
ClipScorer::~ClipScorer() = default;

std::vector<float> ClipScorer::embed(const metrics::RgbView& image) {
  if (!impl_->vision) impl_->vision = impl_->load("clip_vision");
  impl_->vision->set_input("pixels", (*impl_->preprocess)(image));
  return impl_->run(*impl_->vision, "picture");
}

std::vector<float> ClipScorer::embed(const std::string& prompt) {
  if (!impl_->prompt_embedding.empty() && impl_->prompt == prompt) return impl_->prompt_embedding;
  if (!impl_->text) impl_->text = impl_->load("clip_text");
  const text::ClipTokenizer& tokenizer = *impl_->tokenizer;
  const text::ClipEncoding tokens = tokenizer.encode(prompt);
  if (tokens.num_cut > 0) {
    log(impl_->logger, LogLevel::kWarning, "text",
        fmt::format("CLIP score: {} of {} tokens do not fit and were cut: \"{}\"", tokens.num_cut,
                    tokens.num_tokens, tokens.cut_text));
  }
  Tensor ids({DType::kI32, {1, tokenizer.max_length()}});
  std::ranges::copy(tokens.ids, ids.values<int32_t>().begin());
  Tensor end({DType::kI32, {1}});
  const auto first = std::find(tokens.ids.begin() + 1, tokens.ids.end(), tokenizer.end_id());
  end.values<int32_t>()[0] = static_cast<int32_t>(first - tokens.ids.begin());
  impl_->text->set_input("input_ids", ids);
  impl_->text->set_input("eos_index", end);
  impl_->prompt_embedding = impl_->run(*impl_->text, "text");
  impl_->prompt = prompt;
  return impl_->prompt_embedding;
}

double ClipScorer::score(const metrics::RgbView& image, const std::string& prompt) {
  const std::vector<float> x = embed(image), y = embed(prompt);
  return std::max(100.0 * dot(x, y) / (length(x) * length(y)), 0.0);
}

}  // namespace halftone::workflow
