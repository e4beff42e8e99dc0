// The front of a search as one HTML file: chart and table, no script, nothing fetched.
#include <cmath>

#include <fmt/format.h>

#include "workflow/auto_search.h"
#include "workflow/compare/markup.h"
#include "workflow/compare/page.h"
#include "workflow/compare/tables.h"

namespace halftone::workflow {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

std::string number(const std::optional<double>& value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "–";
}

double decibel(double noise) { return noise > 0 ? -10 * std::log10(noise) : 100; }

std::string formats_of(const FrontPoint& point) {
  std::string text;
  for (const auto& [name, count] : point.formats) {
    if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  }
  return text;
}

}  // namespace

std::string front_page(const std::string& title, const Budget& budget,
                       const std::vector<FrontPoint>& points) {
  const bool by_time = budget.target_speedup.has_value();
  const bool by_sqnr = budget.min_sqnr.has_value();
  const auto x_of = [&](const FrontPoint& point) {
    return by_time ? point.step_ms : static_cast<double>(point.bytes) / kMiB;
  };
  const auto measured = [&](const FrontPoint& point) { return by_sqnr ? point.sqnr : point.psnr; };
  // Predictions are shares of noise; shown at the level of what was drawn.
  double offset = 0;
  int count = 0;
  for (const FrontPoint& point : points) {
    if (!measured(point) || point.noise <= 0) continue;
    offset += *measured(point) - decibel(point.noise);
    ++count;
  }
  if (count > 0) offset /= count;
  FrontChart chart{.title = title,
                   .unit = by_sqnr ? "dB SQNR" : "dB PSNR",
                   .x_title = by_time ? "ms a step" : "MiB of weights"};
  Table table{.head = {{by_time ? "ms a step" : "MiB", false},
                       {"predicted, dB", false},
                       {"PSNR, dB", false},
                       {"latent SQNR, dB", false},
                       {"measured step, ms", false},
                       {"layers", true}},
              .rows = {}};
  for (const FrontPoint& point : points) {
    const double predicted = decibel(point.noise) + offset;
    if (point.noise > 0) chart.line.push_back({x_of(point), predicted, {}, false});
    if (const auto value = measured(point); value && point.noise > 0) {
      chart.dots.push_back({x_of(point), *value,
                            fmt::format("{:.2f}: {:.2f} dB", x_of(point), *value), point.chosen});
    }
    table.rows.push_back({fmt::format("{}{:.2f}{}", point.chosen ? "<b>" : "", x_of(point),
                                      point.chosen ? "</b>" : ""),
                          point.noise > 0 ? fmt::format("{:.2f}", predicted) : "–",
                          number(point.psnr, 2), number(point.sqnr, 2),
                          number(point.measured_step_ms, 2), escape_html(formats_of(point))});
  }
  const std::optional<double> gate = by_sqnr ? budget.min_sqnr : budget.min_psnr;
  std::optional<double> x_gate;
  if (budget.max_bytes) x_gate = static_cast<double>(*budget.max_bytes) / kMiB;
  chart.gate = gate ? &*gate : nullptr;
  chart.x_gate = x_gate ? &*x_gate : nullptr;
  return fmt::format(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{1}"
      "</style></head><body><h1>{0}</h1><p>The line is the convex hull of what the search predicts "
      "from each layer alone, moved to the level of the mixes that were drawn (dots); the chosen "
      "one is marked, the dashed line is the budget.</p>{2}<h2>Mixes</h2>{3}</body></html>\n",
      escape_html(title), page_style(), to_svg(chart), to_html(table));
}

}  // namespace halftone::workflow
