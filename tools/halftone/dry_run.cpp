#include "dry_run.h"

#include <vector>

#include <fmt/format.h>

#include "halftone/error.h"
#include "halftone/session.h"

namespace halftone::cli {
namespace {

// The session as it is before its calibration record is made.
SessionOptions without_quantization(SessionOptions session) {
  if (is_quantized(session.precision)) session.precision = Precision::kAuto;
  if (is_quantized(session.vae_precision)) session.vae_precision = Precision::kAuto;
  session.quantization = {};
  return session;
}

}  // namespace

void print_dry_run(const SessionOptions& session, const GenerateOptions& request) {
  DryRun result;
  try {
    result = Session(session).dry_run(request);
  } catch (const Error& error) {
    const bool needs_record = is_quantized(session.precision) ||
                              is_quantized(session.vae_precision) ||
                              !session.quantization.scheme.empty();
    if (error.code() != Errc::kNotFound || !needs_record) throw;
    // A missing model fails here again. What is left is the record; a real run makes it first, or
    // says how, and the plans of quantized components depend on it.
    result = Session(without_quantization(session)).dry_run(request);
    log(session.logger, LogLevel::kWarning, "quant", error.what());
    if (is_quantized(session.precision)) result.request.precision = to_string(session.precision);
    std::erase_if(result.plans, [&](const PlanChoice& plan) {
      return plan.component == "unet" ||
             (plan.component == "vae_decoder" && is_quantized(session.vae_precision));
    });
  }
  fmt::print("{}\n", to_json(result));
}

}  // namespace halftone::cli
