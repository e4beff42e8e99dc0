// One file a verb; the list is in main.cpp. Each returns the exit code.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common.h"

namespace halftone::cli {

using Args = std::span<const std::string>;

int run_generate(Args args);
int run_build(Args args);
int run_inspect(Args args);
int run_bench(Args args);
int run_devices(Args args);
int run_models(Args args);
int run_completion(Args args);
int run_calibrate(Args args);
int run_quantize(Args args);
int run_compare(Args args);

struct Verb {
  std::string_view name, summary;
  int (*run)(Args);
};
[[nodiscard]] std::span<const Verb> verbs();

// What 'halftone devices' prints; --list-devices of other verbs.
void print_devices(const CommonOptions& common);

}  // namespace halftone::cli
