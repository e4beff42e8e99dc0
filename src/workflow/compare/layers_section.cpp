#include "workflow/compare/layers_section.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "metrics/summary.h"
#include "workflow/compare/markup.h"
#include "workflow/compare/tables.h"

namespace halftone::workflow {
namespace {

constexpr size_t kNumShown = 40;
constexpr double kMaxSqnr = 100.0;  // longer bars say nothing

std::string meter(double sqnr, double largest, bool bad) {
  const double width = largest > 0 ? 220 * std::clamp(sqnr / largest, 0.0, 1.0) : 0;
  return fmt::format("<span class=\"meter{}\" style=\"width:{:.0f}px\"></span>", bad ? " bad" : "",
                     width);
}

Table layer_table(const std::vector<const LayerComparison*>& layers, double largest,
                  double bad_below) {
  Table table{.head = {{"Layer", true},
                       {"SQNR, dB"},
                       {"", true},
                       {"Op", true},
                       {"Scheme", true},
                       {"Note", true}},
              .rows = {}};
  for (const LayerComparison* layer : layers) {
    const double shown = std::min(layer->sqnr, kMaxSqnr);
    table.rows.push_back(
        {fmt::format("<code>{}</code>", escape_html(layer->name)),
         std::isfinite(layer->sqnr) ? fmt::format("{:.2f}", layer->sqnr) : std::string("equal"),
         meter(shown, largest, layer->sqnr < bad_below), escape_html(layer->op),
         escape_html(layer->scheme), escape_html(layer->note)});
  }
  return table;
}

}  // namespace

std::string layers_section(const CompareReport& report) {
  if (report.layers.empty()) return {};
  std::vector<double> values;
  BarChart chart{.title = "SQNR of each quantized layer", .unit = "dB", .bars = {}};
  for (const LayerComparison& layer : report.layers) {
    values.push_back(std::min(layer.sqnr, kMaxSqnr));
  }
  const metrics::Summary summary = metrics::summarize(values);
  for (size_t i = 0; i < values.size(); ++i) {
    const LayerComparison& layer = report.layers[i];
    chart.bars.push_back({.value = values[i],
                          .label = fmt::format("{}: {:.2f} dB", layer.name, values[i]),
                          .highlight = values[i] <= summary.p10});
  }
  chart.mean = summary.mean;
  std::vector<const LayerComparison*> order;
  for (const LayerComparison& layer : report.layers) order.push_back(&layer);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* x, const auto* y) { return x->sqnr < y->sqnr; });
  const std::vector<const LayerComparison*> worst(
      order.begin(), order.begin() + static_cast<int64_t>(std::min(kNumShown, order.size())));
  std::string html = fmt::format(
      "<h2>Layer by layer</h2>\n<p class=\"soft\">SQNR = 10 log10(Σ y² / Σ (y − q)²) of each "
      "quantized layer's output: the layer alone, quantized and in full precision, on the same "
      "recorded inputs. {} layers, mean {:.2f} dB, p10 {:.2f} dB.</p>\n<figure>{}<figcaption>In "
      "the order of the graph; orange: the lowest tenth.</figcaption></figure>\n",
      report.layers.size(), summary.mean, summary.p10, to_svg(chart));
  html += fmt::format("<h3>The {} lowest</h3>\n", worst.size());
  html += to_html(layer_table(worst, summary.max, summary.p10));
  if (worst.size() < order.size()) {
    html += "<details><summary>All layers</summary>\n" +
            to_html(layer_table(order, summary.max, summary.p10)) + "</details>\n";
  }
  return html;
}

}  // namespace halftone::workflow
