// The JSON twin of a comparison.
#include "halftone/compare.h"

#include "workflow/report_json.h"

namespace halftone {
namespace workflow {
namespace {

Json summary_value(const Summary& s) {
  return Json::object(
      {{"mean", s.mean}, {"median", s.median}, {"p10", s.p10}, {"min", s.min}, {"max", s.max}});
}

Json optional_value(const std::optional<Summary>& s) { return s ? summary_value(*s) : Json(); }
Json optional_value(const std::optional<double>& v) { return v ? Json(*v) : Json(); }

Json side_value(const CompareSide& side) {
  Json json = Json::object({{"spec", side.spec}, {"kind", side.kind}, {"label", side.label}});
  json.set("simulated", side.is_simulated);
  if (!side.has_run) return json;
  Json plans = Json::array(), components = Json::array();
  for (const PlanUse& plan : side.plans) plans.push(workflow::to_value(plan));
  for (const ComponentMemory& one : side.component_memory) {
    components.push(Json::object({{"component", one.component},
                                  {"static_bytes", one.static_bytes},
                                  {"dynamic_bytes", one.dynamic_bytes},
                                  {"peak_bytes", one.static_bytes + one.dynamic_bytes}}));
  }
  json.set("plans", std::move(plans)).set("memory", workflow::to_value(side.memory));
  json.set("component_memory", std::move(components));
  json.set("pipeline_ms", side.pipeline_ms).set("steps_per_second", side.steps_per_second);
  json.set("load_ms", side.load_ms).set("build_ms", side.build_ms);
  return json.set("warnings", Json::array_of(side.warnings));
}

Json prompt_value(const PromptComparison& p) {
  Json json = Json::object({{"index", p.index},
                            {"prompt", p.prompt},
                            {"seed", p.seed},
                            {"psnr", p.psnr},
                            {"identical", p.identical}});
  json.set("ssim", optional_value(p.ssim)).set("ms_ssim", optional_value(p.ms_ssim));
  json.set("latent_sqnr", optional_value(p.latent_sqnr))
      .set("latent_mse", optional_value(p.latent_mse));
  if (p.clip_a) json.set("clip_score_a", *p.clip_a).set("clip_score_b", *p.clip_b);
  if (p.lpips) json.set("lpips", *p.lpips);
  return json.set("image_a", p.image_a).set("image_b", p.image_b);
}

Json layer_list(const std::vector<LayerComparison>& layers) {
  Json list = Json::array();
  for (const LayerComparison& layer : layers) {
    list.push(Json::object({{"name", layer.name},
                            {"op", layer.op},
                            {"scheme", layer.scheme},
                            {"sqnr", layer.sqnr},
                            {"note", layer.note}}));
  }
  return list;
}

Json module_list(const std::vector<ModuleLatency>& modules) {
  Json list = Json::array();
  for (const ModuleLatency& module : modules) {
    list.push(Json::object({{"name", module.name},
                            {"runs", module.runs},
                            {"a_ms", module.a_ms},
                            {"b_ms", module.b_ms}}));
  }
  return list;
}

}  // namespace
}  // namespace workflow

std::string to_json(const CompareReport& report) {
  using namespace workflow;
  Json json = workflow::header("compare");
  json.set("a", side_value(report.a)).set("b", side_value(report.b));
  json.set("request",
           report.a.has_run || report.b.has_run ? workflow::to_value(report.request) : Json());
  json.set("psnr", summary_value(report.psnr)).set("ssim", optional_value(report.ssim));
  json.set("ms_ssim", optional_value(report.ms_ssim))
      .set("latent_sqnr", optional_value(report.latent_sqnr));
  if (const auto& clip = report.clip_score) {
    json.set("clip_score", Json::object({{"a", summary_value(clip->a)},
                                         {"b", summary_value(clip->b)},
                                         {"difference", summary_value(clip->difference)}}));
  }
  if (!report.lpips_network.empty()) {
    json.set("lpips", optional_value(report.lpips)).set("lpips_network", report.lpips_network);
  }
  json.set("min_psnr", optional_value(report.min_psnr))
      .set("min_ssim", optional_value(report.min_ssim));
  json.set("passed", report.passed).set("report", report.report);
  json.set("worst", Json::array_of(report.worst));
  json.set("step_sqnr_median", Json::array_of(report.step_sqnr));
  json.set("step_sqnr_p10", Json::array_of(report.step_sqnr_p10));
  json.set("modules", workflow::module_list(report.modules));
  json.set("layers", workflow::layer_list(report.layers));
  Json prompts = Json::array();
  for (const PromptComparison& prompt : report.prompts) prompts.push(prompt_value(prompt));
  json.set("prompts", std::move(prompts)).set("total_ms", report.total_ms);
  return to_text(json);
}

}  // namespace halftone
