#include "workflow/plan_check.h"

#include <array>

#include <fmt/format.h>

#include "halftone/error.h"

#include "workflow/quantization.h"

namespace halftone::workflow {
namespace {

[[noreturn]] void refuse(const PlanWish& wish, const std::string& text) {
  throw Error(Errc::kIncompatiblePlan, fmt::format("{}: {}", wish.file, text));
}

// Whether a comma-separated list of a fingerprint has this name.
bool lists(const std::string& list, const std::string& name) {
  return fmt::format(",{},", list).find(fmt::format(",{},", name)) != std::string::npos;
}

void check_left_out(const runtime::Plan& plan, const PlanWish& wish) {
  for (const std::string& pass : wish.disabled_passes) {
    if (!lists(plan.fingerprint.entry("passes"), pass)) continue;
    refuse(wish, fmt::format("was built with the pass {}; run 'halftone build --disable-pass {}'",
                             pass, pass));
  }
  for (const std::string& kernel : wish.disabled_kernels) {
    if (lists(plan.fingerprint.entry("disabled_kernels"), kernel)) continue;
    refuse(wish, fmt::format("was built without --disable-kernel {}; give it to 'halftone build'",
                             kernel));
  }
}

// What the plan does to the denoiser, for messages: "int8.l3.… (recipe 1a2b3c4d)".
std::string form_of(const runtime::Plan& plan) {
  const std::string name = plan.fingerprint.entry("quantization");
  const std::string precision = plan.fingerprint.entry("precision");
  if (name.empty()) return fmt::format("{}, not quantized", precision);
  return fmt::format("{} in {} (recipe {})", name, precision,
                     plan.fingerprint.entry("recipe").substr(0, 8));
}

void check_model(const runtime::Plan& plan, const Model& model, const PlanWish& wish) {
  if (plan.component != "unet") {
    refuse(wish, fmt::format("is a plan of {}, wanted one of unet", plan.component));
  }
  const auto check = [&](const char* entry, const std::string& own, const char* what) {
    const std::string built_for = plan.fingerprint.entry(entry);
    if (built_for.empty() || built_for == own) return;
    refuse(wish, fmt::format("built for {} {}, this model's are {}; run 'halftone build' for it",
                             what, built_for.substr(0, 8), own.substr(0, 8)));
  };
  check("model", model.checkpoint->structure_hash(), "layers");
  // Scales and smoothing factors come from the weights.
  if (!plan.fingerprint.entry("weights").empty()) {
    check("weights", model.checkpoint->content_hash(), "weights");
  }
  const std::string loras = plan.fingerprint.entry("lora");
  if (loras != wish.loras) {
    refuse(wish,
           fmt::format("built for {}; give the same LoRAs, or run 'halftone build' with these",
                       loras.empty() ? "no LoRA" : "LoRAs " + loras));
  }
}

bool is_plain(Precision precision) {
  return precision == Precision::kF32 || precision == Precision::kBF16 ||
         precision == Precision::kF16;
}

void check_recipe(const runtime::Plan& plan, const Model& model, const PlanWish& wish) {
  const QuantizationOptions& asked = wish.quantization;
  const bool chose_recipe = !asked.recipe.empty() || !asked.scheme.empty();
  if (wish.precision == Precision::kAuto && !chose_recipe) return;
  std::string origin;
  const auto recipe = recipe_of(asked, wish.precision, model, &origin);
  const std::string built_with = plan.fingerprint.entry("recipe");
  const std::string own = recipe ? recipe->hash() : std::string();
  if (built_with == own) return;
  refuse(wish,
         fmt::format(
             "is {}; asked for {}; leave --precision and the recipe out to take the plan "
             "as it is, or run 'halftone build' with these options",
             form_of(plan),
             recipe ? fmt::format("{} (recipe {}, {})", recipe->scheme, own.substr(0, 8), origin)
                    : fmt::format("{}, not quantized", to_string(wish.precision))));
}

}  // namespace

void check_plan_file(const runtime::Plan& plan, const Model& model, const PlanWish& wish) {
  check_model(plan, model, wish);
  check_recipe(plan, model, wish);
  const std::string precision = plan.fingerprint.entry("precision");
  if (is_plain(wish.precision) && precision != to_string(wish.precision)) {
    refuse(wish, fmt::format("computes in {}, asked for {}; give --precision {}", precision,
                             to_string(wish.precision), precision));
  }
  if (!wish.quantization.ranges.empty()) {
    const std::string own = quant::load_record(wish.quantization.ranges).hash();
    const std::string built_with = plan.fingerprint.entry("calibration");
    if (own != built_with) {
      refuse(wish, fmt::format("was built with calibration record {}, asked for {} ({})",
                               built_with.empty() ? "none" : built_with.substr(0, 8),
                               own.substr(0, 8), wish.quantization.ranges));
    }
  }
  if (wish.quantization.simulate && plan.fingerprint.entry("simulate") == "false") {
    refuse(wish, "runs folded operators, asked for --simulate; run 'halftone build --simulate'");
  }
  check_left_out(plan, wish);
}

void check_component_plan(const runtime::Plan& plan, const runtime::Fingerprint& wanted,
                          const PlanWish& wish) {
  constexpr std::array kEntries = {"model",       "lora",    "precision", "text_layers_skipped",
                                   "recipe",      "weights", "simulate",  "calibration",
                                   "quantization"};
  for (const char* key : kEntries) {
    const std::string built_for = plan.fingerprint.entry(key);
    const std::string own = wanted.entry(key);
    if (built_for == own) continue;
    const auto shown = [](const std::string& text) { return text.empty() ? "none" : text; };
    refuse(wish, fmt::format("built for {} {}, asked for {}; run 'halftone build' for it", key,
                             shown(built_for), shown(own)));
  }
  check_left_out(plan, wish);
}

}  // namespace halftone::workflow
