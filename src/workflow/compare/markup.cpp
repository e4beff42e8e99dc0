#include "workflow/compare/markup.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <fmt/format.h>

namespace halftone::workflow {
namespace {

// Extents of a chart in its own units; the page scales it.
constexpr double kWidth = 720, kHeight = 240;
constexpr double kLeft = 60, kRight = 12, kTop = 14, kBottom = 32;
constexpr double kPlotWidth = kWidth - kLeft - kRight;
constexpr double kPlotHeight = kHeight - kTop - kBottom;

struct Axis {
  std::vector<double> ticks;
  [[nodiscard]] double y(double value) const {
    const double share = (value - ticks.front()) / (ticks.back() - ticks.front());
    return kTop + kPlotHeight * (1 - std::clamp(share, 0.0, 1.0));
  }
};

std::string open_svg(std::string_view title) {
  return fmt::format(
      "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">"
      "<title>{}</title>",
      kWidth, kHeight, escape_html(title), escape_html(title));
}

std::string grid(const Axis& axis, std::string_view unit) {
  std::string svg;
  for (const double tick : axis.ticks) {
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}</text>",
        kLeft, kWidth - kRight, axis.y(tick), axis.y(tick), kLeft - 6, axis.y(tick) + 4, tick);
  }
  svg += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", 4.0, kHeight - 6,
                     escape_html(unit));
  return svg;
}

std::string level(const Axis& axis, double value, std::string_view css, std::string_view name) {
  return fmt::format(
      "<line class=\"{}\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\">"
      "<title>{} {:.4g}</title></line>",
      css, kLeft, kWidth - kRight, axis.y(value), axis.y(value), name, value);
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string base64(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t have = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < have ? std::to_integer<uint32_t>(bytes[i + k]) : 0U);
    }
    for (size_t k = 0; k < 4; ++k) {
      text += k <= have ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
    }
  }
  return text;
}

std::vector<double> axis_ticks(double low, double high, int about) {
  if (high - low < 1e-9 * std::max(1.0, std::fabs(high))) high = low + 1;
  const double rough = (high - low) / about;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) {
      step = factor * power;
      break;
    }
  }
  const auto first = static_cast<int64_t>(std::floor(low / step + 1e-9));
  const auto last = static_cast<int64_t>(std::ceil(high / step - 1e-9));
  std::vector<double> ticks;
  for (int64_t i = first; i <= std::max(last, first + 1); ++i) {
    ticks.push_back(static_cast<double>(i) * step);
  }
  return ticks;
}

std::string to_svg(const BarChart& chart) {
  if (chart.bars.empty()) return {};
  double low = chart.bars.front().value, high = low;
  for (const Bar& bar : chart.bars) {
    low = std::min(low, bar.value);
    high = std::max(high, bar.value);
  }
  if (chart.gate != nullptr) {
    low = std::min(low, *chart.gate);
    high = std::max(high, *chart.gate);
  }
  const double margin = 0.05 * (high - low);  // the smallest bar stays visible
  const Axis axis{axis_ticks(low - margin, high)};
  std::string svg = open_svg(chart.title) + grid(axis, chart.unit);
  const double pitch = kPlotWidth / static_cast<double>(chart.bars.size());
  const double width = std::max(0.5, pitch * (pitch > 4 ? 0.78 : 1.0));
  for (size_t i = 0; i < chart.bars.size(); ++i) {
    const Bar& bar = chart.bars[i];
    const double y = axis.y(bar.value);
    svg += fmt::format(
        "<rect class=\"{}\" x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\">"
        "<title>{}</title></rect>",
        bar.highlight ? "bar bad" : "bar",
        kLeft + pitch * static_cast<double>(i) + (pitch - width) / 2, y, width,
        kTop + kPlotHeight - y, escape_html(bar.label));
  }
  svg += level(axis, chart.mean, "mean", "mean");
  if (chart.gate != nullptr) svg += level(axis, *chart.gate, "gate", "gate");
  return svg + "</svg>";
}

std::string to_svg(const LineChart& chart) {
  double low = 0, high = 0;
  size_t points = 0;
  for (const Line& line : chart.lines) {
    for (const double value : line.values) {
      low = points == 0 ? value : std::min(low, value);
      high = points == 0 ? value : std::max(high, value);
      ++points;
    }
  }
  if (points == 0) return {};
  const Axis axis{axis_ticks(low, high)};
  std::string svg = open_svg(chart.title) + grid(axis, chart.unit);
  for (const Line& line : chart.lines) {
    const auto last = static_cast<double>(std::max<size_t>(2, line.values.size()) - 1);
    std::string path;
    for (size_t i = 0; i < line.values.size(); ++i) {
      path +=
          fmt::format("{}{:.1f},{:.1f}", i == 0 ? "" : " ",
                      kLeft + kPlotWidth * static_cast<double>(i) / last, axis.y(line.values[i]));
    }
    svg += fmt::format("<polyline class=\"line{}\" points=\"{}\"><title>{}</title></polyline>",
                       line.secondary ? " second" : "", path, escape_html(line.name));
  }
  svg += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
                     kWidth - kRight, kHeight - 6, escape_html(chart.x_title));
  return svg + "</svg>";
}

namespace {

// Ticks of the y axis: of all points and the gate.
std::vector<double> ticks_of(const FrontChart& chart, double Dot::*part, const double* gate) {
  std::vector<double> values;
  for (const auto* dots : {&chart.line, &chart.dots}) {
    for (const Dot& dot : *dots) values.push_back(dot.*part);
  }
  if (gate != nullptr) values.push_back(*gate);
  if (values.empty()) values.push_back(0);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return axis_ticks(*low, *high);
}

}  // namespace

std::string to_svg(const FrontChart& chart) {
  const Axis axis{ticks_of(chart, &Dot::y, chart.gate)};
  const std::vector<double> x_ticks = ticks_of(chart, &Dot::x, chart.x_gate);
  const auto x_of = [&](double value) {
    const double share = (value - x_ticks.front()) / (x_ticks.back() - x_ticks.front());
    return kLeft + kPlotWidth * std::clamp(share, 0.0, 1.0);
  };
  std::string svg = open_svg(chart.title) + grid(axis, chart.unit);
  for (const double tick : x_ticks) {
    svg += fmt::format(
        "<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.4g}</text>",
        x_of(tick), kTop + kPlotHeight + 14, tick);
  }
  std::string path;
  for (const Dot& dot : chart.line) {
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x_of(dot.x), axis.y(dot.y));
  }
  svg += fmt::format("<polyline class=\"line\" points=\"{}\"/>", path);
  for (const Dot& dot : chart.dots) {
    svg += fmt::format(
        "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"><title>{}</title></circle>",
        dot.highlight ? "bar bad" : "bar", x_of(dot.x), axis.y(dot.y), dot.highlight ? 6 : 4,
        escape_html(dot.label));
  }
  if (chart.gate != nullptr) svg += level(axis, *chart.gate, "gate", "wanted");
  if (chart.x_gate != nullptr) {
    svg += fmt::format(
        "<line class=\"gate\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\">"
        "<title>wanted {3:.4g}</title></line>",
        x_of(*chart.x_gate), double{kTop}, double{kTop + kPlotHeight}, *chart.x_gate);
  }
  svg += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
                     kWidth - kRight, kHeight - 6, escape_html(chart.x_title));
  return svg + "</svg>";
}

}  // namespace halftone::workflow
