#include "workflow/compare/tables.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "workflow/compare/markup.h"

namespace halftone::workflow {
namespace {

std::string mib(uint64_t bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes) / (1024.0 * 1024.0));
}

std::string ratio(double a, double b) {
  return a > 0 && b > 0 ? fmt::format("{:.2f}×", a / b) : std::string("–");
}

std::string milliseconds(double ms) {
  return ms > 0 ? fmt::format("{:.2f}", ms) : std::string("–");
}

std::string latency_table(const CompareReport& report) {
  Table table{.head = {{"Module", true},
                       {escape_html(report.a.label) + ", ms"},
                       {escape_html(report.b.label) + ", ms"},
                       {"speed-up"}},
              .rows = {},
              .last_is_total = true};
  const bool claim = !report.a.is_simulated && !report.b.is_simulated;
  const auto speed_up = [&](double a, double b) {
    return claim ? ratio(a, b) : std::string("simulated");
  };
  for (const ModuleLatency& module : report.modules) {
    table.rows.push_back(
        {module.runs > 1 ? fmt::format("{} × {}", escape_html(module.name), module.runs)
                         : escape_html(module.name),
         milliseconds(module.a_ms), milliseconds(module.b_ms), speed_up(module.a_ms, module.b_ms)});
  }
  const CompareSide &a = report.a, &b = report.b;
  table.rows.push_back({"Denoising, it/s", fmt::format("{:.2f}", a.steps_per_second),
                        fmt::format("{:.2f}", b.steps_per_second),
                        speed_up(b.steps_per_second, a.steps_per_second)});
  table.rows.push_back({"Whole image", milliseconds(a.pipeline_ms), milliseconds(b.pipeline_ms),
                        speed_up(a.pipeline_ms, b.pipeline_ms)});
  std::string html =
      "<h3>Latency of one image</h3>\n<p class=\"soft\">Median over the prompts, one image at a "
      "time, plans and weights loaded. Speed-up = first column / second.";
  if (!claim) html += " A simulated side computes in higher precision: its times say nothing.";
  return html + "</p>\n" + to_html(table);
}

struct Memory {
  uint64_t static_bytes = 0, dynamic_bytes = 0;
};

Memory memory_of(const CompareSide& side, std::string_view component) {
  for (const ComponentMemory& one : side.component_memory) {
    if (one.component == component) return {one.static_bytes, one.dynamic_bytes};
  }
  return {};
}

std::string memory_table(const CompareReport& report) {
  Table table{
      .head = {{"Scope", true}, {"Side", true}, {"static, MiB"}, {"dynamic, MiB"}, {"peak, MiB"}},
      .rows = {}};
  const auto add = [&](const std::string& scope, const CompareSide& side, const Memory& m) {
    table.rows.push_back({scope, escape_html(side.label), mib(m.static_bytes), mib(m.dynamic_bytes),
                          mib(m.static_bytes + m.dynamic_bytes)});
  };
  const auto add_pair = [&](const std::string& scope, const Memory& a, const Memory& b) {
    if (report.a.has_run) add(scope, report.a, a);
    if (report.b.has_run) add(scope, report.b, b);
    if (!report.a.has_run || !report.b.has_run) return;
    const auto share = [](uint64_t x, uint64_t y) {
      return ratio(static_cast<double>(x), static_cast<double>(y));
    };
    table.rows.push_back(
        {"", "saving", share(a.static_bytes, b.static_bytes),
         share(a.dynamic_bytes, b.dynamic_bytes),
         share(a.static_bytes + a.dynamic_bytes, b.static_bytes + b.dynamic_bytes)});
  };
  add_pair("UNet alone", memory_of(report.a, "unet"), memory_of(report.b, "unet"));
  add_pair("whole pipeline", {report.a.memory.static_bytes, report.a.memory.dynamic_bytes},
           {report.b.memory.static_bytes, report.b.memory.dynamic_bytes});
  return "<h3>Memory</h3>\n<p class=\"soft\">As MixDQ defines it: static = weights as the kernels "
         "hold them, after loading; dynamic = what running adds (activations, inputs, kept "
         "results); "
         "peak = static + dynamic. Exact sums of what the engine allocates, libraries not "
         "included.</p>\n" +
         to_html(table);
}

std::string plan_table(const CompareReport& report) {
  Table table{.head = {{"Side", true},
                       {"Component", true},
                       {"Precision", true},
                       {"Weights, MiB"},
                       {"Plan", true}},
              .rows = {}};
  for (const CompareSide* side : {&report.a, &report.b}) {
    for (const PlanUse& plan : side->plans) {
      table.rows.push_back({escape_html(side->label), escape_html(plan.component),
                            escape_html(plan.precision),
                            mib(memory_of(*side, plan.component).static_bytes),
                            fmt::format("<code>{}</code>", plan.fingerprint.substr(0, 16))});
    }
  }
  return "<h3>Plans that ran</h3>\n" + to_html(table);
}

// What the scores that need weight files are, or how to get them.
std::string about_scores(const CompareReport& report) {
  std::string text;
  if (!report.clip_score || report.lpips_network.empty()) {
    text =
        "The CLIP score and LPIPS need weight files (<code>--clip-model</code>, "
        "<code>--lpips</code>).";
  }
  if (report.clip_score) {
    text +=
        " CLIP score: 100 times the cosine of the picture's and the prompt's CLIP embedding, at "
        "least 0.";
  }
  if (!report.lpips_network.empty()) {
    text +=
        fmt::format(" LPIPS: version 0.1, network {}, 0 for equal pictures.", report.lpips_network);
  }
  return text;
}

std::string optional_number(const std::optional<double>& value, int digits) {
  if (!value) return "–";
  return std::isfinite(*value) ? fmt::format("{:.{}f}", *value, digits) : std::string("equal");
}

}  // namespace

std::string to_html(const Table& table) {
  const auto open = [&](std::string_view tag, size_t column) {
    const bool text = column < table.head.size() && table.head[column].is_text;
    return fmt::format("<{}{}>", tag, text ? " class=\"text\"" : "");
  };
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
  for (size_t i = 0; i < table.head.size(); ++i) {
    html += open("th", i) + table.head[i].html + "</th>";
  }
  html += "</tr></thead><tbody>\n";
  for (size_t r = 0; r < table.rows.size(); ++r) {
    const bool total = table.last_is_total && r + 1 == table.rows.size();
    html += total ? "<tr class=\"total\">" : "<tr>";
    for (size_t i = 0; i < table.rows[r].size(); ++i) {
      html += open("td", i) + table.rows[r][i] + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string cost_tables(const CompareReport& report) {
  if (!report.a.has_run && !report.b.has_run) return {};
  return "<h2>Size, memory and speed</h2>\n" + latency_table(report) + memory_table(report) +
         plan_table(report);
}

std::string prompt_table(const CompareReport& report) {
  Table table{.head = {{"#"},
                       {"Prompt", true},
                       {"Seed"},
                       {"PSNR, dB"},
                       {"SSIM"},
                       {"MS-SSIM"},
                       {"latent SQNR, dB"}},
              .rows = {}};
  if (report.clip_score) {
    table.head.insert(table.head.end(), {{"CLIP score A"}, {"CLIP score B"}});
  }
  if (!report.lpips_network.empty()) table.head.push_back({"LPIPS"});
  for (const PromptComparison& p : report.prompts) {
    table.rows.push_back(
        {fmt::format("{}", p.index), escape_html(p.prompt), fmt::format("{}", p.seed),
         p.identical ? "identical" : fmt::format("{:.2f}", p.psnr), optional_number(p.ssim, 4),
         optional_number(p.ms_ssim, 4), optional_number(p.latent_sqnr, 2)});
    std::vector<std::string>& row = table.rows.back();
    if (report.clip_score) {
      row.insert(row.end(), {optional_number(p.clip_a, 2), optional_number(p.clip_b, 2)});
    }
    if (!report.lpips_network.empty()) row.push_back(optional_number(p.lpips, 4));
  }
  return fmt::format(
             "<h2>All prompts</h2>\n<p class=\"soft\">Equal pictures count as {} dB in means. "
             "SSIM: Gaussian window 11 × 11, sigma 1.5, mean of the channels. {}</p>\n",
             kIdenticalPsnr, about_scores(report)) +
         to_html(table);
}

}  // namespace halftone::workflow
