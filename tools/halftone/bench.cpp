// halftone bench e2e: whole images, repeatedly.
#include <fmt/format.h>

#include "halftone/calibrate.h"
#include "halftone/session.h"

#include "request_options.h"
#include "summary.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct BenchArgs {
  CommonOptions common;
  ModelArgs model;
  RequestArgs request;
  int warmup = 1, iterations = 3;
  bool no_profile = false;
};

void bench(const CLI::App& app, BenchArgs& a) {
  if (a.request.positionals.empty() || a.request.positionals.front() != "e2e") {
    throw UsageError(
        "bench: got no kind, wanted 'halftone bench e2e [prompt]'; kernels and blocks are "
        "measured by the programs in bench/");
  }
  a.request.positionals.erase(a.request.positionals.begin());
  const std::vector<std::string> prompts = read_prompts(a.request);
  BenchOptions options{.generate = generate_options(app, a.request),
                       .warmup = a.warmup,
                       .iterations = a.iterations,
                       .profile = !a.no_profile};
  options.generate.prompt = prompts.empty() ? "a red apple" : prompts.front();
  if (!options.generate.seed) options.generate.seed = 0;
  const SessionOptions wanted = session_options(a.model, a.common);
  calibrate_if_missing(wanted);
  Session session(wanted);
  const BenchReport report = session.bench(options);
  if (!a.common.json.empty()) write_json(a.common, to_json_lines(report));
  if (!json_on_stdout(a.common)) fmt::print("{}", bench_table(report));
}

}  // namespace

int run_bench(Args args) {
  BenchArgs a;
  CLI::App app("Measures whole images: halftone bench e2e [prompt].", "halftone bench");
  add_model_options(app, a.model);
  add_request_options(app, a.request);
  app.add_option("--warmup,--warmUp,--num-warmup-runs", a.warmup, "Runs before measuring")
      ->check(CLI::Range(0, 1000));
  app.add_option("--iterations,--avgRuns", a.iterations, "Measured runs")
      ->check(CLI::Range(1, 10000));
  app.add_flag("--no-profile", a.no_profile, "Without the time per operator class");
  add_common(app, a.common);
  return run_verb({"bench", app, args, request_spelling()}, a.common, [&] { bench(app, a); });
}

}  // namespace halftone::cli
