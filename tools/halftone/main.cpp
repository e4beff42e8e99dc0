// The halftone command: finds the verb and runs it.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "halftone/device.h"

#include "verbs.h"

namespace halftone::cli {
namespace {

constexpr std::array kVerbs = {
    Verb{"generate", "Make images from prompts", run_generate},
    Verb{"build", "Make the plans of a model for one size", run_build},
    Verb{"inspect", "Show what is in a plan, model, safetensors file or image", run_inspect},
    Verb{"bench", "Measure speed and memory", run_bench},
    Verb{"calibrate", "Record what quantization needs to know", run_calibrate},
    Verb{"quantize", "Write a recipe and what it does to each layer", run_quantize},
    Verb{"compare", "Draw the same prompts in two ways and measure the difference", run_compare},
    Verb{"devices", "List the devices plans can run on", run_devices},
    Verb{"models", "List, find and make models", run_models},
    Verb{"completion", "Print a shell completion script", run_completion},
};

// Known from the design, not built yet: refused by name instead of "unknown".
constexpr std::array<std::string_view, 2> kLaterVerbs = {"export", "serve"};

void print_help() {
  fmt::print("halftone VERB [options] [prompts]\n\n");
  for (const Verb& verb : kVerbs) fmt::print("  {:<12} {}\n", verb.name, verb.summary);
  fmt::print(
      "\n'halftone VERB --help' lists a verb's options; 'halftone --version' the versions.\n");
}

void print_version(bool json) {
  const Version v = version();
  if (json) {
    fmt::print("{}\n", to_json(v));
    return;
  }
  fmt::print("halftone {} ({})\n{}\n", v.version, v.commit, v.compiler);
  for (const std::string& library : v.libraries) fmt::print("{}\n", library);
}

int run(const std::vector<std::string>& args) {
  if (args.empty()) {
    print_help();
    return kExitUsage;
  }
  const std::string& first = args.front();
  if (first == "--help" || first == "-h" || first == "help") {
    print_help();
    return 0;
  }
  if (first == "--version") {
    print_version(std::find(args.begin(), args.end(), "--json") != args.end());
    return 0;
  }
  constexpr std::string_view kCompletion = "--completion-";  // as other tools spell the verb
  if (first.starts_with(kCompletion)) {
    const std::vector<std::string> shell = {first.substr(kCompletion.size())};
    return run_completion(Args(shell));
  }
  for (const Verb& verb : kVerbs) {
    if (verb.name == first) return verb.run(Args(args).subspan(1));
  }
  if (std::find(kLaterVerbs.begin(), kLaterVerbs.end(), first) != kLaterVerbs.end()) {
    fmt::print(stderr, "error: not supported: '{}' is not built into this version\n", first);
    return kExitUsage;
  }
  fmt::print(stderr, "error: unknown verb '{}'; 'halftone --help' lists them\n", first);
  return kExitUsage;
}

}  // namespace

std::span<const Verb> verbs() { return kVerbs; }

}  // namespace halftone::cli

namespace {

// GNU's OpenMP lets waiting threads spin for milliseconds. On a busy machine the spinners keep the
// very thread that they wait for off its core: a tiny UNet's step took 600 ms instead of 3. The
// runtime reads its settings before main(), so the program starts itself once more with a short
// spin.
void shorten_openmp_spin(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  constexpr const char* kIterations = "1000";  // a few microseconds
  if (::setenv("GOMP_SPINCOUNT", kIterations, 1) != 0) return;
  ::execv("/proc/self/exe", argv);  // returns only on failure, which costs speed alone
}

}  // namespace

int main(int argc, char** argv) {
  shorten_openmp_spin(argv);
  const std::vector<std::string> args(argv + 1, argv + argc);
  return halftone::cli::run(args);
}
