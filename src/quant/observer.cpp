#include "quant/observer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "graph/ops/reduce.h"
#include "tensor/quantized.h"

namespace halftone::quant {
namespace {

constexpr float kMomentum = 0.95F;

float scalar(const Tensor& tensor) { return tensor.values<float>()[0]; }

// One call's statistics of one value.
void add_call(ValueStats& stats, size_t step, float low, float high) {
  const float m = std::max(std::fabs(low), std::fabs(high));
  const bool first_call = std::ranges::all_of(stats.calls, [](int64_t n) { return n == 0; });
  stats.low = first_call ? low : std::min(stats.low, low);
  stats.high = first_call ? high : std::max(stats.high, high);
  const auto average = [&](float& ema, float value) {
    ema = first_call ? value : kMomentum * ema + (1.0F - kMomentum) * value;
  };
  average(stats.ema_low, low);
  average(stats.ema_high, high);
  const bool first_here = stats.calls[step] == 0;
  stats.sum[step] += m;
  stats.max[step] = first_here ? m : std::max(stats.max[step], m);
  stats.min[step] = first_here ? m : std::min(stats.min[step], m);
  ++stats.calls[step];
}

constexpr std::array<std::pair<Collect::Method, std::string_view>, 6> kMethods{
    {{Collect::Method::kMinMean, "min-mean"},
     {Collect::Method::kMinMax, "min-max"},
     {Collect::Method::kMeanMax, "mean-max"},
     {Collect::Method::kGlobalMin, "global_min"},
     {Collect::Method::kMax, "max"},
     {Collect::Method::kMse, "mse"}}};
constexpr std::array<std::pair<Collect::Compat, std::string_view>, 5> kCompats{
    {{Collect::Compat::kNone, "none"},
     {Collect::Compat::kTrt9, "trt9"},
     {Collect::Compat::kTrt10, "trt10"},
     {Collect::Compat::kNemo, "nemo"},
     {Collect::Compat::kMixdq, "mixdq"}}};

float largest(const ValueStats& stats) {
  return stats.max.empty() ? 0.0F : *std::ranges::max_element(stats.max);
}

float middle(int64_t bin) {
  return 0.5F * (graph::histogram_edge(bin) + graph::histogram_edge(bin + 1));
}

float histogram_amax(const ValueStats& stats, double percent) {
  int64_t total = 0;
  for (const int64_t n : stats.histogram) total += n;
  const double wanted = static_cast<double>(total) * percent / 100.0;
  int64_t below = 0;
  for (size_t bin = 0; bin < stats.histogram.size(); ++bin) {
    below += stats.histogram[bin];
    if (static_cast<double>(below) >= wanted) {
      return std::min(graph::histogram_edge(static_cast<int64_t>(bin) + 1), largest(stats));
    }
  }
  return largest(stats);
}

// Expected squared error of rounding to `high` steps up to amax, taking each bin at its middle:
// step^2 / 12 inside, the distance outside.
double squared_error(const ValueStats& stats, double amax, double high) {
  const double step = amax / high;
  double error = 0;
  for (size_t bin = 0; bin < stats.histogram.size(); ++bin) {
    if (stats.histogram[bin] == 0) continue;
    const auto x = static_cast<double>(middle(static_cast<int64_t>(bin)));
    // Below half a step everything becomes 0; above amax it is clipped.
    const double one = x > amax         ? (x - amax) * (x - amax)
                       : x < 0.5 * step ? x * x
                                        : step * step / 12.0;
    error += one * static_cast<double>(stats.histogram[bin]);
  }
  return error;
}

float mse_amax(const ValueStats& stats, int64_t bits) {
  const float top = largest(stats);
  const double high = static_cast<double>((int64_t{1} << (bits - 1)) - 1);
  double best = top;
  double least = squared_error(stats, top, high);
  for (int i = 1; i < 200; ++i) {
    const double amax = static_cast<double>(top) * std::pow(2.0, -i / 25.0);
    const double error = squared_error(stats, amax, high);
    if (error < least) {
      least = error;
      best = amax;
    }
  }
  return static_cast<float>(best);
}

// Statistic of each of the first `count` steps that was seen.
template <class F>
std::vector<double> over_steps(const ValueStats& stats, size_t count, F f) {
  std::vector<double> values;
  for (size_t k = 0; k < std::min(count, stats.calls.size()); ++k) {
    if (stats.calls[k] > 0) values.push_back(f(k));
  }
  return values;
}

}  // namespace

Recorder::Recorder(CalibrationRecord& record, std::vector<Tap> taps, int num_steps)
    : record_(record), taps_(std::move(taps)), num_steps_(num_steps) {
  check_internal(num_steps > 0, "a calibration has steps");
  const auto refuse = [](const std::string& text) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("calibration record: {}; give another file or remove it", text));
  };
  if (record_.num_steps != 0 && record_.num_steps != num_steps) {
    refuse(fmt::format("was made with {} steps, asked for {}", record_.num_steps, num_steps));
  }
  record_.num_steps = num_steps;
  for (const Tap& tap : taps_) {
    const size_t steps = tap.rate == graph::Rate::kPrompt ? 1 : static_cast<size_t>(num_steps);
    auto [it, fresh] = record_.values.try_emplace(tap.value);
    ValueStats& stats = it->second;
    if (fresh) {
      if (record_.samples > 0)
        refuse(fmt::format(
            "was made by another version or for another model: it does not hold '{}'", tap.value));
      stats.channels = tap.channels;
      for (auto* row : {&stats.sum, &stats.max, &stats.min}) row->assign(steps, 0.0F);
      stats.calls.assign(steps, 0);
      stats.column_amax.assign(static_cast<size_t>(tap.channels), 0.0F);
      stats.histogram.assign(graph::kHistogramBins, 0);
    }
    if (stats.channels != tap.channels || stats.calls.size() != steps) {
      refuse(fmt::format("value '{}' has {} channels, the model {}", tap.value, stats.channels,
                         tap.channels));
    }
    if (tap.value.ends_with(without_first({}))) continue;
    for (const std::string& layer : tap.layers) record_.layers[layer] = tap.value;
  }
}

void Recorder::observe(const Read& read, int step) {
  check_internal(step >= 0 && step < num_steps_, "calibration step out of range");
  for (const Tap& tap : taps_) {
    const bool once = tap.rate == graph::Rate::kPrompt;
    if (once && step > 0) continue;
    ValueStats& stats = record_.values.at(tap.value);
    const float low = scalar(read(output_name(tap.value, "min")));
    const float high = scalar(read(output_name(tap.value, "max")));
    const Tensor columns = read(output_name(tap.value, "columns"));
    for (size_t i = 0; i < stats.column_amax.size(); ++i) {
      const float value = columns.values<float>()[i];
      if (!std::isfinite(value) || !std::isfinite(low) || !std::isfinite(high)) {
        throw Error(
            Errc::kInternal,
            fmt::format("calibration: the input of {} is not finite at step {}", tap.value, step));
      }
      stats.column_amax[i] = std::max(stats.column_amax[i], value);
    }
    add_call(stats, once ? 0 : static_cast<size_t>(step), low, high);
    if (!tap.histogram) continue;
    const Tensor counts = read(output_name(tap.value, "histogram"));
    for (size_t i = 0; i < stats.histogram.size(); ++i) {
      stats.histogram[i] += counts.values<int32_t>()[i];
    }
  }
}

Collect::Method parse_method(std::string_view text, double& histogram_percentile) {
  if (text == "default") return Collect::Method::kMax;  // ModelOpt's word
  for (const auto& [method, name] : kMethods) {
    if (name == text) return method;
  }
  if (text.starts_with("hist:")) {
    double value = 0;
    const std::string_view number = text.substr(5);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (error == std::errc{} && end == number.data() + number.size() && value > 0 && value <= 100) {
      histogram_percentile = value;
      return Collect::Method::kHistogram;
    }
  }
  throw Error(
      Errc::kInvalidArgument,
      fmt::format("collect method '{}': wanted min-mean, min-max, mean-max, global_min, max, "
                  "mse, or hist:P with P in (0, 100]",
                  text));
}

std::string method_name(const Collect& collect) {
  for (const auto& [method, name] : kMethods) {
    if (method == collect.method) return std::string(name);
  }
  return fmt::format("hist:{}", collect.histogram_percentile);
}

Collect::Compat parse_compat(std::string_view text) {
  for (const auto& [compat, name] : kCompats) {
    if (name == text) return compat;
  }
  throw Error(
      Errc::kInvalidArgument,
      fmt::format("calibration compatibility '{}': wanted none, trt9, trt10, nemo or mixdq", text));
}

std::string_view to_string(Collect::Compat compat) {
  for (const auto& [value, name] : kCompats) {
    if (value == compat) return name;
  }
  return "?";
}

float amax_of(const ValueStats& stats, const Collect& collect, int64_t bits) {
  using Method = Collect::Method;
  using Compat = Collect::Compat;
  const auto num_steps = static_cast<double>(stats.calls.size());
  const double share = collect.compat == Compat::kTrt9 ? 0.4 : collect.percentile;
  const auto count = static_cast<size_t>(std::max(1.0, std::floor(num_steps * share)));
  const auto least = [](const std::vector<double>& values) {
    return values.empty() ? 0.0F : static_cast<float>(*std::ranges::min_element(values));
  };
  const auto max_at = [&](size_t k) { return static_cast<double>(stats.max[k]); };
  if (collect.compat == Compat::kTrt9) return least(over_steps(stats, count, max_at));
  if (collect.compat == Compat::kMixdq) {
    return std::max(std::fabs(stats.ema_low), std::fabs(stats.ema_high));
  }
  const bool by_steps = collect.compat == Compat::kTrt10 || collect.compat == Compat::kNemo;
  switch (collect.method) {
    case Method::kMinMean:
      return least(over_steps(stats, count, [&](size_t k) {
        return static_cast<double>(stats.sum[k]) /
               (by_steps ? num_steps : static_cast<double>(stats.calls[k]));
      }));
    case Method::kMinMax:
      return least(over_steps(stats, count, max_at));
    case Method::kMeanMax: {
      const std::vector<double> values = over_steps(stats, count, max_at);
      double sum = 0;
      for (const double v : values) sum += v;
      return values.empty() ? 0.0F : static_cast<float>(sum / static_cast<double>(values.size()));
    }
    case Method::kGlobalMin:
      return least(over_steps(stats, count, [&](size_t k) {
        return static_cast<double>(stats.min[k]) /
               (collect.compat == Compat::kTrt10 ? num_steps : 1.0);
      }));
    case Method::kMax:
      return largest(stats);
    case Method::kHistogram:
      return histogram_amax(stats, collect.histogram_percentile);
    case Method::kMse:
      return mse_amax(stats, bits);
  }
  return largest(stats);
}

double predicted_sqnr(const ValueStats& stats, double step, double noise_gain) {
  double total = 0;
  double count = 0;
  for (size_t bin = 0; bin < stats.histogram.size(); ++bin) {
    const auto n = static_cast<double>(stats.histogram[bin]);
    const auto x = static_cast<double>(middle(static_cast<int64_t>(bin)));
    count += n;
    if (bin > 0) total += n * x * x;  // the first bin is that of zero
  }
  if (total <= 0) return -std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(total / count / (noise_gain * step * step / 12.0));
}

AsymmetricRange asymmetric_range(float low, float high, int64_t bits) {
  low = std::min(0.0F, low);
  high = std::max(0.0F, high);
  const auto steps = static_cast<float>((int64_t{1} << bits) - 1);
  const float scale = std::max((high - low) / steps, kMinScale);
  const auto zero = static_cast<int32_t>(std::nearbyint(-low / scale));
  return {scale, zero - (1 << (bits - 1))};
}

}  // namespace halftone::quant
