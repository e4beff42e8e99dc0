#include "workflow/compare/page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <numeric>

#include <fmt/format.h>

#include "io/image.h"
#include "metrics/image_metrics.h"
#include "workflow/compare/layers_section.h"
#include "workflow/compare/markup.h"
#include "workflow/compare/tables.h"
#include "workflow/report_json.h"

namespace halftone::workflow {
namespace {

constexpr int kDifferenceGain = 8;
constexpr double kMaxPagePixels = 16.0 * (1 << 20);  // of one side; noise takes 3 bytes a pixel

std::string decibels(double value) { return fmt::format("{:.2f} dB", value); }

std::string figures(const PromptComparison& p) {
  std::string text = p.identical ? std::string("identical") : "PSNR " + decibels(p.psnr);
  if (p.ssim) text += fmt::format(" · SSIM {:.4f}", *p.ssim);
  if (p.ms_ssim) text += fmt::format(" · MS-SSIM {:.4f}", *p.ms_ssim);
  if (p.latent_sqnr && std::isfinite(*p.latent_sqnr)) {
    text += fmt::format(" · latent SQNR {}", decibels(*p.latent_sqnr));
  }
  if (p.clip_a) text += fmt::format(" · CLIP score {:.2f} → {:.2f}", *p.clip_a, *p.clip_b);
  if (p.lpips) text += fmt::format(" · LPIPS {:.4f}", *p.lpips);
  return text;
}

std::string picture(const io::RgbImage& image, const std::string& label, const std::string& alt) {
  return fmt::format(
      "<div><img width=\"{}\" height=\"{}\" alt=\"{}\" "
      "src=\"data:image/png;base64,{}\"><span>{}</span></div>",
      image.width, image.height, escape_html(alt), base64(io::encode_png(image, {})),
      escape_html(label));
}

io::RgbImage difference(const io::RgbImage& a, const io::RgbImage& b) {
  io::RgbImage map{.width = a.width, .height = a.height};
  map.rgb = metrics::absolute_difference({.width = a.width, .height = a.height, .rgb = a.rgb},
                                         {.width = b.width, .height = b.height, .rgb = b.rgb});
  for (uint8_t& v : map.rgb) v = static_cast<uint8_t>(std::min(255, v * kDifferenceGain));
  return map;
}

std::string shot(const CompareReport& report, const PromptComparison& p) {
  const io::RgbImage a = io::read_png(p.image_a).image, b = io::read_png(p.image_b).image;
  return fmt::format(
             "<div class=\"shot\" id=\"p{}\"><h3>{}</h3><div class=\"figures\">#{} · {}</div>"
             "<div class=\"three\">",
             p.index, escape_html(p.prompt), p.index, figures(p)) +
         picture(a, report.a.label, "A: " + p.prompt) +
         picture(b, report.b.label, "B: " + p.prompt) +
         picture(difference(a, b), fmt::format("difference × {}", kDifferenceGain),
                 "difference map") +
         "</div></div>\n";
}

std::string tile(std::string_view name, const Summary& s, bool is_db) {
  const auto number = [&](double v) { return fmt::format("{:.{}f}", v, is_db ? 2 : 4); };
  return fmt::format(
      "<div class=\"tile\"><span>{}, mean</span><b>{}{}</b>"
      "<span>median {} · p10 {} · worst {}</span></div>",
      name, number(s.mean), is_db ? " dB" : "", number(s.median), number(s.p10), number(s.min));
}

// Of the scores that need weight files.
std::string score_tiles(const CompareReport& report) {
  std::string html;
  if (const auto& clip = report.clip_score) {
    html += fmt::format(
        "<div class=\"tile\"><span>CLIP score, mean</span><b>{:.2f} → {:.2f}</b>"
        "<span>difference {:+.2f} · median {:+.2f} · worst {:+.2f}</span></div>",
        clip->a.mean, clip->b.mean, clip->difference.mean, clip->difference.median,
        clip->difference.min);
  }
  if (const auto& lpips = report.lpips) {
    html += fmt::format(
        "<div class=\"tile\"><span>LPIPS ({}), mean</span><b>{:.4f}</b>"
        "<span>median {:.4f} · worst {:.4f}</span></div>",
        report.lpips_network, lpips->mean, lpips->median, lpips->max);
  }
  return html;
}

std::string verdict(std::string_view name, double got, const std::optional<double>& gate,
                    std::string_view unit) {
  if (!gate) return {};
  const bool passed = got >= *gate;
  return fmt::format("<span class=\"verdict {}\">{}: mean {} {:.4g}{} {} {:.4g}{}</span>",
                     passed ? "passed" : "missed", passed ? "passed" : "missed", name, got, unit,
                     passed ? "≥" : "&lt;", *gate, unit);
}

// The folder's name: a report is passed on, and where things lie is nobody's business.
std::string model_name(const std::string& path) {
  const std::filesystem::path folder(path);
  return (folder.filename().empty() ? folder.parent_path() : folder).filename().string();
}

std::string headline(const CompareReport& report) {
  const ResolvedRequest& r = report.request;
  std::string html = fmt::format("<h1>{} against {}</h1>\n<p class=\"soft\">",
                                 escape_html(report.b.label), escape_html(report.a.label));
  if (report.a.has_run || report.b.has_run) {
    html += fmt::format("{} · {} × {} · {} steps · guidance {:g} · {} · seeds from {} · {}",
                        escape_html(model_name(r.model)), r.width, r.height, r.steps, r.guidance,
                        escape_html(r.scheduler), r.seed, escape_html(r.device));
  }
  html += fmt::format("<br>{} prompts · Halftone {} ({})</p>\n", report.prompts.size(),
                      HALFTONE_VERSION, escape_html(build_commit()));
  html += verdict("PSNR", report.psnr.mean, report.min_psnr, " dB");
  html += verdict("SSIM", report.ssim ? report.ssim->mean : 0, report.min_ssim, "");
  html += "<div class=\"tiles\">" + tile("PSNR", report.psnr, true);
  if (report.ssim) html += tile("SSIM", *report.ssim, false);
  if (report.ms_ssim) html += tile("MS-SSIM", *report.ms_ssim, false);
  if (report.latent_sqnr) html += tile("Latent SQNR", *report.latent_sqnr, true);
  html += score_tiles(report);
  return html + "</div>\n";
}

std::string figure(const std::string& svg, const std::string& caption) {
  if (svg.empty()) return {};
  return fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", svg, caption);
}

std::string charts(const CompareReport& report) {
  const auto is_worst = [&](int index) {
    return report.worst.size() < report.prompts.size() &&
           std::find(report.worst.begin(), report.worst.end(), index) != report.worst.end();
  };
  BarChart psnr{.title = "PSNR of each prompt", .unit = "dB", .bars = {}, .mean = report.psnr.mean};
  psnr.gate = report.min_psnr ? &*report.min_psnr : nullptr;
  BarChart ssim{.title = "SSIM of each prompt", .unit = "SSIM", .bars = {}};
  ssim.mean = report.ssim ? report.ssim->mean : 0;
  ssim.gate = report.min_ssim ? &*report.min_ssim : nullptr;
  for (const PromptComparison& p : report.prompts) {
    const std::string label = fmt::format("#{} {}: {}", p.index, p.prompt, figures(p));
    psnr.bars.push_back({.value = p.psnr, .label = label, .highlight = is_worst(p.index)});
    if (p.ssim) {
      ssim.bars.push_back({.value = *p.ssim, .label = label, .highlight = is_worst(p.index)});
    }
  }
  const LineChart steps{
      .title = "SQNR of the latent after each step",
      .unit = "dB",
      .x_title = fmt::format("step 1 to {}", report.step_sqnr.size()),
      .lines = {{.name = "median", .values = report.step_sqnr},
                {.name = "p10", .values = report.step_sqnr_p10, .secondary = true}}};
  std::string html = "<h2>Prompt by prompt</h2>\n<div class=\"charts\">";
  html += figure(to_svg(psnr),
                 "PSNR of each prompt in the order of the file; the ten worst in "
                 "orange, dashed line: mean. The axis does not begin at 0.");
  html += figure(to_svg(ssim), "SSIM of each prompt.");
  html += figure(to_svg(steps),
                 "SQNR of the latent after each denoising step: solid median, "
                 "dashed p10 of the prompts.");
  return html + "</div>\n";
}

// Indices of the prompts shown with pictures, worst first.
std::vector<int> shown(const CompareReport& report, int max_pictures) {
  std::vector<int> order(report.prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return report.prompts[static_cast<size_t>(a)].psnr <
           report.prompts[static_cast<size_t>(b)].psnr;
  });
  size_t most = order.size();
  if (max_pictures > 0) {
    most = static_cast<size_t>(max_pictures);
  } else {
    const io::PngInfo info = io::read_png_info(report.prompts.front().image_a);
    const double pixels = static_cast<double>(info.width) * info.height;
    if (pixels * static_cast<double>(order.size()) > kMaxPagePixels) most = report.worst.size();
  }
  order.resize(std::min(order.size(), most));
  return order;
}

std::string pictures(const CompareReport& report, int max_pictures) {
  const std::vector<int> order = shown(report, max_pictures);
  const size_t large = std::min(order.size(), report.worst.size());
  std::string html = fmt::format(
      "<h2>The {} worst</h2>\n<p class=\"soft\">Lowest PSNR first. Each difference map is the "
      "absolute difference of every channel times {}, cut at white.</p>\n"
      "<div class=\"shots large\">\n",
      large, kDifferenceGain);
  for (size_t i = 0; i < large; ++i) {
    html += shot(report, report.prompts[static_cast<size_t>(order[i])]);
  }
  html += "</div>\n";
  if (large == order.size()) return html;
  html += "<h2>Other prompts</h2>\n<div class=\"shots\">\n";
  for (size_t i = large; i < order.size(); ++i) {
    html += shot(report, report.prompts[static_cast<size_t>(order[i])]);
  }
  return html + "</div>\n";
}

}  // namespace

std::string comparison_page(const CompareReport& report, int max_pictures) {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'\">\n<title>{} against {} · Halftone</title>\n<style>{}</style>"
      "</head>\n<body>\n",
      escape_html(report.b.label), escape_html(report.a.label), page_style());
  html += headline(report);
  html += charts(report);
  html += pictures(report, max_pictures);
  html += layers_section(report);
  html += cost_tables(report);
  html += prompt_table(report);
  return html + "</body></html>\n";
}

}  // namespace halftone::workflow
