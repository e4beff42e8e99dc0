#include "workflow/report_json.h"

#include <fmt/format.h>

#include "halftone/session.h"

#include "workflow/power.h"

namespace halftone {
namespace workflow {

Json header(std::string_view verb) {
  return Json::object({{"schema", fmt::format("halftone.{}/v1", verb)},
                       {"version", HALFTONE_VERSION},
                       {"commit", build_commit()}});
}

Json to_value(const ResolvedRequest& r) {
  Json json =
      Json::object({{"model", r.model},
                    {"family", r.family},
                    {"device", r.device},
                    {"device_reason", r.device_reason.empty() ? Json() : Json(r.device_reason)},
                    {"precision", r.precision},
                    {"vae_precision", r.vae_precision},
                    {"prompt", r.prompt},
                    {"prompt_2", r.prompt_2}});
  Json loras = Json::array();
  for (const LoraUse& lora : r.loras) {
    loras.push(Json::object({{"file", lora.file},
                             {"hash", lora.hash},
                             {"weight", lora.weight},
                             {"num_modules", lora.num_modules}}));
  }
  json.set("loras", std::move(loras));
  json.set("negative_prompt", r.has_negative_prompt ? Json(r.negative_prompt) : Json());
  json.set("negative_prompt_2", r.has_negative_prompt ? Json(r.negative_prompt_2) : Json());
  json.set("width", r.width).set("height", r.height).set("steps", r.steps);
  json.set("guidance", r.guidance).set("cfg", r.cfg);
  json.set("seed", r.random_seed ? Json() : Json(r.seed)).set("rng", r.rng);
  json.set("batch_size", r.batch_size).set("batch_count", r.batch_count);
  json.set("scheduler", r.scheduler).set("sigma_schedule", r.sigma_schedule);
  json.set("init_image", r.init_image.empty() ? Json() : Json(r.init_image));
  json.set("strength", r.init_image.empty() ? Json() : Json(r.strength));
  json.set("output_type", r.output_type);
  return json;
}

Json to_value(const PlanUse& plan) {
  return Json::object({{"component", plan.component},
                       {"fingerprint", plan.fingerprint},
                       {"precision", plan.precision},
                       {"origin", plan.origin},
                       {"file", plan.file.empty() ? Json() : Json(plan.file)},
                       {"build_ms", plan.build_ms}});
}

Json to_value(const MemoryUse& memory) {
  return Json::object({{"static_bytes", memory.static_bytes},
                       {"dynamic_bytes", memory.dynamic_bytes},
                       {"peak_rss_bytes", memory.peak_rss_bytes},
                       {"device_peak_bytes", memory.device_peak_bytes}});
}

Json to_value(const Spread& spread) {
  return Json::object({{"median", spread.median},
                       {"p10", spread.p10},
                       {"p90", spread.p90},
                       {"p99", spread.p99},
                       {"min", spread.min},
                       {"max", spread.max}});
}

namespace {

Json plan_list(const std::vector<PlanUse>& plans) {
  Json list = Json::array();
  for (const PlanUse& plan : plans) list.push(to_value(plan));
  return list;
}

Json component_list(const std::vector<ComponentMemory>& components) {
  Json list = Json::array();
  for (const ComponentMemory& one : components) {
    list.push(Json::object({{"component", one.component},
                            {"static_bytes", one.static_bytes},
                            {"dynamic_bytes", one.dynamic_bytes}}));
  }
  return list;
}

Json check_list(const std::vector<NodeCheck>& checks) {
  Json list = Json::array();
  for (const NodeCheck& check : checks) {
    list.push(Json::object({{"component", check.component},
                            {"node", check.node},
                            {"op", check.op},
                            {"kernel", check.kernel},
                            {"relative_l2", check.relative_l2},
                            {"max_abs", check.max_abs},
                            {"limit", check.limit},
                            {"ok", check.ok}}));
  }
  return list;
}

Json model_value(const ModelEntry& model) {
  return Json::object({{"name", model.name},
                       {"path", model.path},
                       {"family", model.family.empty() ? Json() : Json(model.family)},
                       {"problem", model.problem.empty() ? Json() : Json(model.problem)},
                       {"size_bytes", model.num_bytes}});
}

}  // namespace
}  // namespace workflow

using workflow::header;
using workflow::to_value;

std::string to_json(const DryRun& result) {
  Json json = header("generate");
  json.set("dry_run", true).set("request", to_value(result.request));
  Json plans = Json::array();
  for (const PlanChoice& plan : result.plans) {
    plans.push(Json::object({{"component", plan.component},
                             {"fingerprint", plan.fingerprint},
                             {"precision", plan.precision},
                             {"file", plan.file.empty() ? Json() : Json(plan.file)},
                             {"is_cached", plan.is_cached}}));
  }
  json.set("plans", std::move(plans));
  return to_text(json, 2);
}

std::string to_json(const GenerateReport& report, const std::vector<std::string>& files) {
  Json json = header("generate");
  json.set("files", Json::array_of(files)).set("seeds", Json::array_of(report.seeds));
  json.set("request", to_value(report.request)).set("plans", workflow::plan_list(report.plans));
  Json modules = Json::array();
  for (const ModuleTime& module : report.modules) {
    modules.push(
        Json::object({{"name", module.name}, {"runs", module.runs}, {"total_ms", module.ms}}));
  }
  json.set("modules", std::move(modules));
  json.set("pipeline_ms", report.pipeline_ms).set("load_ms", report.load_ms);
  json.set("build_ms", report.build_ms).set("total_ms", report.total_ms);
  json.set("steps_per_second", report.steps_per_second).set("num_images", report.num_images);
  json.set("memory", to_value(report.memory));
  json.set("component_memory", workflow::component_list(report.component_memory));
  if (!report.checks.empty()) json.set("checks", workflow::check_list(report.checks));
  json.set("warnings", Json::array_of(report.warnings));
  return to_text(json);
}

std::string to_json(const BuildReport& report) {
  Json json = header("build");
  json.set("model", report.model).set("device", report.device);
  json.set("plans", workflow::plan_list(report.plans));
  json.set("files", Json::array_of(report.files)).set("total_ms", report.total_ms);
  return to_text(json);
}

std::string to_json_lines(const BenchReport& report) {
  Json first = header("bench");
  first.set("workload", "e2e").set("request", to_value(report.last.request));
  first.set("plans", workflow::plan_list(report.last.plans));
  first.set("n", report.iterations).set("warmup", report.warmup).set("unit", "ms");
  first.set("device", report.last.request.device).set("precision", report.last.request.precision);
  first.set("batch", report.last.request.batch_size)
      .set("libraries", Json::array_of(report.libraries));
  first.set("median_ms", report.total_ms.median).set("p10_ms", report.total_ms.p10);
  first.set("p90_ms", report.total_ms.p90).set("p99_ms", report.total_ms.p99);
  first.set("images_per_second", report.images_per_second);
  first.set("steps_per_second", report.steps_per_second);
  workflow::set_power(first, report.power);
  first.set("build_cold_ms", report.build_cold_ms);
  first.set("build_warm_ms", report.build_warm_ms > 0 ? Json(report.build_warm_ms) : Json());
  first.set("total", to_value(report.total_ms));
  Json modules = Json::object();
  for (const auto& [name, spread] : report.modules) modules.set(name, to_value(spread));
  first.set("modules", std::move(modules));
  first.set("warmup_build_ms", report.warmup_build_ms);
  first.set("memory", to_value(report.last.memory));
  first.set("component_memory", workflow::component_list(report.last.component_memory));
  if (!report.last.checks.empty()) first.set("checks", workflow::check_list(report.last.checks));
  std::string text = to_text(first);
  for (const OpClassTime& op : report.ops) {
    Json json = header("bench");
    json.set("workload", "op").set("op", op.op).set("kernel", op.kernel).set("calls", op.calls);
    json.set("total_ms", op.ms).set("gflop", op.gflop);
    json.set("gflop_per_second", op.gflop_per_second).set("gbyte", op.gbyte);
    json.set("roof_ms", op.roof_ms).set("share", op.share);
    text += '\n';
    text += to_text(json);
  }
  return text;
}

std::string to_json(const std::vector<ModelEntry>& models) {
  Json json = header("models");
  Json list = Json::array();
  for (const ModelEntry& model : models) list.push(workflow::model_value(model));
  json.set("models", std::move(list));
  return to_text(json, 2);
}

std::string to_json(const ModelVerification& verification) {
  Json json = header("models");
  json.set("model", workflow::model_value(verification.model));
  Json files = Json::array();
  for (const VerifiedFile& file : verification.files) {
    files.push(Json::object({{"path", file.path},
                             {"size_bytes", file.num_bytes},
                             {"sha256", file.sha256},
                             {"problem", file.problem.empty() ? Json() : Json(file.problem)}}));
  }
  json.set("files", std::move(files)).set("num_non_finite", verification.num_non_finite);
  return to_text(json.set("passed", verification.passed()), 2);
}

std::string to_json(const RemovedModel& removed) {
  Json json = header("models");
  json.set("removed", removed.path).set("size_bytes", removed.num_bytes);
  return to_text(json.set("num_files", removed.num_files), 2);
}

std::string to_json(const std::vector<DeviceEntry>& devices) {
  Json json = header("devices");
  Json list = Json::array();
  for (const DeviceEntry& device : devices) {
    list.push(Json::object({{"name", device.name},
                            {"model", device.model},
                            {"arch", device.arch},
                            {"num_units", device.num_units},
                            {"memory_bytes", device.memory_bytes},
                            {"features", Json::array_of(device.features)},
                            {"precisions", Json::array_of(device.precisions)}}));
  }
  json.set("devices", std::move(list));
  return to_text(json, 2);
}

std::string to_json(const Version& version) {
  Json json = header("version");
  json.set("compiler", version.compiler).set("libraries", Json::array_of(version.libraries));
  return to_text(json, 2);
}

}  // namespace halftone
