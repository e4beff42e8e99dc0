#include "workflow/compare/lpips.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "models/feature_net.h"
#include "runtime/executor.h"
#include "workflow/compare/lpips_weights.h"
#include "workflow/graph_plan.h"

namespace halftone::workflow {
namespace {

// lpips' ScalingLayer, on values from -1 to 1.
constexpr std::array<double, 3> kShift = {-0.030, -0.088, -0.188};
constexpr std::array<double, 3> kScale = {0.458, 0.448, 0.450};
constexpr double kEpsilon = 1e-10;

using Features = std::array<Tensor, models::kNumFeatureStages>;

Tensor to_pixels(const metrics::RgbView& image) {
  Tensor pixels({DType::kF32, {1, image.height, image.width, 3}});
  const auto values = pixels.values<float>();
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = static_cast<double>(image.rgb[i]) / 127.5 - 1.0;
    values[i] = static_cast<float>((x - kShift[i % 3]) / kScale[i % 3]);
  }
  return pixels;
}

double inverse_length(std::span<const float> x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
  return 1.0 / (std::sqrt(sum) + kEpsilon);
}

// Mean over the positions.
double stage_distance(const Tensor& a, const Tensor& b, const std::vector<float>& weights) {
  const size_t channels = weights.size();
  const auto x = a.values<float>(), y = b.values<float>();
  double total = 0;
  for (size_t at = 0; at < x.size(); at += channels) {
    const auto p = x.subspan(at, channels), q = y.subspan(at, channels);
    const double p_factor = inverse_length(p), q_factor = inverse_length(q);
    for (size_t c = 0; c < channels; ++c) {
      const double d = static_cast<double>(p[c]) * p_factor - static_cast<double>(q[c]) * q_factor;
      total += static_cast<double>(weights[c]) * d * d;
    }
  }
  return total * static_cast<double>(channels) / static_cast<double>(x.size());
}

}  // namespace

struct LpipsScorer::Impl {
  Impl(backend::Device& d, const std::vector<std::filesystem::path>& paths, const Logger& logger)
      : device(d), weights(paths, logger) {}

  // Keeps the network of the last size.
  void prepare(int64_t height, int64_t width) {
    if (network && network->input_type("pixels").shape == Shape{1, height, width, 3}) return;
    network.reset();
    graph::Graph graph =
        models::build_features("lpips", weights.net(), weights.widths(), height, width);
    network = std::make_unique<runtime::Executor>(
        plan_of_graph(device, "lpips", std::move(graph), {}), 0, device, weights);
  }

  [[nodiscard]] Features features(const metrics::RgbView& image) const {
    network->set_input("pixels", to_pixels(image));
    network->run_step();
    network->synchronize();
    Features result;
    for (size_t i = 0; i < result.size(); ++i) {
      result[i] = network->output(fmt::format("stage_{}", i));
    }
    return result;
  }

  backend::Device& device;
  LpipsWeights weights;
  std::unique_ptr<runtime::Executor> network;
};

LpipsScorer::LpipsScorer(backend::Device& device, const std::vector<std::filesystem::path>& paths,
                         const Logger& logger)
    : impl_(std::make_unique<Impl>(device, paths, logger)) {}
LpipsScorer::~LpipsScorer() = default;

std::string_view LpipsScorer::network() const { return impl_->weights.net().name; }

std::optional<double> LpipsScorer::distance(const metrics::RgbView& a, const metrics::RgbView& b) {
  check_internal(a.width == b.width && a.height == b.height, "LPIPS: pictures of one size");
  if (!models::is_large_enough(impl_->weights.net(), a.height, a.width)) return std::nullopt;
  impl_->prepare(a.height, a.width);
  const Features x = impl_->features(a), y = impl_->features(b);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    sum += stage_distance(x[i], y[i], impl_->weights.linear(i));
  }
  if (std::isfinite(sum)) return sum;
  throw Error(
      Errc::kCorruptFile,
      fmt::format("{}: LPIPS is {}, wanted a finite number; the weights hold values that are "
                  "not finite",
                  impl_->weights.where(), sum));
}

}  // namespace halftone::workflow
