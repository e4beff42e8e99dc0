// What a run tells afterwards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace halftone {

struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height * width * 3
  uint64_t seed = 0;
  std::string parameters;  // text for the PNG chunk "parameters" (WebUI's grammar)
  std::string metadata;    // JSON for the PNG chunk "halftone" (schema halftone.image/v1)
};

struct PlanUse {
  std::string component;
  std::string fingerprint;  // 64 hex digits
  std::string precision;    // "fp32", "bf16"
  std::string origin;       // "cache", "built" or "file"
  std::string file;         // empty when the plan lives only in memory
  double build_ms = 0;
};

struct ModuleTime {
  std::string name;  // rows of the summary: "clip", "clip2", "unetxl", "vae", ...
  int runs = 0;
  double ms = 0;  // of all runs together
};

struct MemoryUse {
  uint64_t static_bytes = 0;  // weights as the kernels hold them
  uint64_t dynamic_bytes =
      0;  // activations: arena, inputs, outputs, kept prompt and schedule results
  uint64_t peak_rss_bytes = 0;     // of the process, so far
  uint64_t device_peak_bytes = 0;  // most device memory that was held at one time, so far
};

// Of one component alone; dynamic_bytes with the activations that its own shape needs.
struct ComponentMemory {
  std::string component;
  uint64_t static_bytes = 0, dynamic_bytes = 0;
};

// A LoRA that was added to the weights.
struct LoraUse {
  std::string file, hash;  // hash of its bytes
  double weight = 1;
  int num_modules = 0;  // layers that it changes
};

// A node of a plan against its reference on the same inputs.
struct NodeCheck {
  std::string component, node, op, kernel;
  double relative_l2 = 0;  // |y - reference| / |reference|
  double max_abs = 0;      // largest |y - reference|
  double limit = 0;        // relative_l2 above it is wrong, by the element type of the output
  bool ok = true;
};

// What a request came to after aliases, the model's configuration and built-in defaults.
struct ResolvedRequest {
  std::string model, family, device, precision, vae_precision;
  std::string device_reason{};  // why "auto" took the device; empty when it was named
  std::vector<LoraUse> loras{};
  std::string prompt, prompt_2;
  bool has_negative_prompt = false;
  std::string negative_prompt, negative_prompt_2;
  int width = 0, height = 0, steps = 0;
  double guidance = 0;
  bool cfg = false;  // the denoiser runs [uncond; cond]
  bool random_seed = false;
  uint64_t seed = 0;
  std::string rng;
  int batch_size = 1, batch_count = 1;
  std::string scheduler, sigma_schedule;
  std::string init_image;
  double strength = 0;
  std::string output_type;
};

// One plan that a request would take.
struct PlanChoice {
  std::string component, fingerprint, precision, file;
  bool is_cached = false;
};

struct DryRun {
  ResolvedRequest request;
  std::vector<PlanChoice> plans;
};

struct GenerateReport {
  ResolvedRequest request;
  std::vector<uint64_t> seeds;
  std::vector<PlanUse> plans;
  std::vector<ModuleTime> modules;
  double pipeline_ms = 0;  // text to image, all batches, without load and build
  double load_ms = 0;      // reading and packing weights
  double build_ms = 0;     // making plans; 0 when all came from the cache
  double total_ms = 0;
  double steps_per_second = 0;  // of the denoising loop
  int num_images = 0;
  MemoryUse memory;
  std::vector<ComponentMemory> component_memory;  // in the order of `plans`
  std::vector<NodeCheck> checks;                  // worst first; SessionOptions::reference_check
  std::vector<std::string> warnings;
};

struct BuildReport {
  std::string model, device;
  std::vector<PlanUse> plans;
  std::vector<std::string> files;  // what was written for BuildOptions::save
  double total_ms = 0;
};

struct Spread {
  double median = 0, p10 = 0, p90 = 0, p99 = 0, min = 0, max = 0;
};

// What a device drew and at which clock it ran while something was measured; empty where the device
// does not tell, or not for so short a time. Of the whole board, whoever uses it.
struct PowerUse {
  std::optional<double> energy_j_per_image;  // the host's time between images included
  std::optional<double> power_w;             // on average
  std::optional<double> power_limit_w;       // what the board is held to
  std::optional<double> sm_clock_mhz;        // the median
};

struct OpClassTime {
  std::string op;  // "linear", "conv2d", ...
  std::string kernel;
  uint64_t calls = 0;  // of one image
  double ms = 0;       // of one image
  double gflop = 0;
  double gflop_per_second = 0;
  double gbyte = 0;    // operands and results, each once
  double roof_ms = 0;  // the least time that the device's peaks allow
  double share = 0;    // roof_ms / ms
};

// What a device can do at most; rates of one element type in multiply-adds * 2.
struct Peaks {
  std::string source;                                  // "measured" or "datasheet"
  std::vector<std::pair<std::string, double>> tflops;  // by element type: "f32", "bf16", "i8"
  double gbyte_per_second = 0;
};

// One shape that the networks use, on one kernel. Medians, where not named otherwise.
struct KernelTime {
  std::string shape;   // "linear 2048x1280x1280"
  std::string model;   // "sdxl-1024-b2"
  std::string dtype;   // what is multiplied
  std::string kernel;  // ours, or a library's
  int calls = 0;       // in one forward of the network
  double us = 0, gflop = 0;
  double p10_us = 0, p90_us = 0;
  double tflops = 0, gbyte_per_second = 0;  // bytes: operands and results once
  double share = 0;     // of the element type's peak; of memory's where nothing is multiplied
  PowerUse power;       // with KernelBenchOptions::sustain_s; no images
  std::string problem;  // why it was not measured
};

struct BenchReport {
  GenerateReport last;
  int warmup = 0, iterations = 0;
  Spread total_ms;
  std::vector<std::pair<std::string, Spread>> modules;  // milliseconds an iteration
  double warmup_build_ms = 0;                           // plans and weights of the warm-up runs
  double build_cold_ms = 0;  // making all plans, kernels chosen, nothing cached
  double build_warm_ms = 0;  // the same plans from the cache; 0 without one
  double images_per_second = 0, steps_per_second = 0;  // at the medians
  PowerUse power;                                      // over all iterations together
  std::vector<OpClassTime> ops;                        // slowest first
  Peaks peaks;                                         // with `ops`
  std::vector<std::string> libraries;                  // as Version::libraries
};

}  // namespace halftone
