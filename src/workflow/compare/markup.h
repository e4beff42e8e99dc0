// Pieces of a self-contained HTML page: text, pictures as data, charts as inline SVG. Colours are
// CSS variables of the page's style, so that light and dark follow the reader.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::workflow {

// Text for element content and for attribute values in double quotes.
[[nodiscard]] std::string escape_html(std::string_view text);
[[nodiscard]] std::string base64(std::span<const std::byte> bytes);

// Evenly placed round numbers that cover [low, high]; at least two.
[[nodiscard]] std::vector<double> axis_ticks(double low, double high, int about = 5);

struct Bar {
  double value = 0;
  std::string label;       // shown on hover
  bool highlight = false;  // drawn in the warning colour
};
// Vertical bars in the given order over an axis from the smallest value's tick to the largest's; a
// dashed line at `mean` and, when given, at `gate`.
struct BarChart {
  std::string title, unit;
  std::vector<Bar> bars;
  double mean = 0;
  const double* gate = nullptr;
};
[[nodiscard]] std::string to_svg(const BarChart& chart);

// Lines over 1, 2, ..., n.
struct Line {
  std::string name;
  std::vector<double> values;
  bool secondary = false;  // thinner, dashed
};
struct LineChart {
  std::string title, unit, x_title;
  std::vector<Line> lines;
};
[[nodiscard]] std::string to_svg(const LineChart& chart);

// Points over a measured axis: a line through `line`, dots for `dots`, a dashed level at `gate`.
struct Dot {
  double x = 0, y = 0;
  std::string label;       // shown on hover
  bool highlight = false;  // drawn in the warning colour
};
struct FrontChart {
  std::string title, unit, x_title;
  std::vector<Dot> line{};  // by x
  std::vector<Dot> dots{};
  const double* gate = nullptr;    // of y
  const double* x_gate = nullptr;  // of x
};
[[nodiscard]] std::string to_svg(const FrontChart& chart);

}  // namespace halftone::workflow
