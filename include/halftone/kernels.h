// How fast a device runs the shapes that the networks are made of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "halftone/log.h"
#include "halftone/report.h"

namespace halftone {

struct KernelBenchOptions {
  std::string device = "auto";
  int threads = 0;          // as SessionOptions
  std::string cache_dir{};  // measured choices are kept there; empty = nowhere
  // Which network's shapes: "sdxl-1024-b2", "turbo-512-b1", "sd3-1024-b2", "vae-1024"; empty = all.
  std::string network{};
  std::string filter{};               // only shapes whose text contains it
  std::vector<std::string> dtypes{};  // "f32", "f16", "bf16", "i8", "f8e4m3"; empty = the device's
  // Images at once: of more than one a network named b2 has as many times its rows. [1, 64].
  int batch_size = 1;
  int iterations = 5;  // samples a kernel
  // Seconds that each kernel runs before its samples are taken: what a device sustains is less than
  // what it does cool. [0, 60].
  double sustain_s = 0;
  Logger logger{};
  ProgressCallback progress{};  // stage "kernels"; asked before each sample
};

struct KernelBenchReport {
  std::string device, arch;
  int batch_size = 1;    // as in the options
  double sustain_s = 0;  // likewise
  Peaks peaks;
  std::vector<KernelTime> kernels;  // shape by shape; the kernel that plans choose first
};

// Every linear, convolution, attention, norm and quantizing of the networks, on every kernel of the
// device that takes it, the libraries' among them; random data (8-bit operands: codes of nearly
// normal values), the same buffers each time. Throws kInvalidArgument for names that mean nothing.
[[nodiscard]] KernelBenchReport bench_kernels(const KernelBenchOptions& options);
// One JSON object a line.
[[nodiscard]] std::string to_json_lines(const KernelBenchReport& report);

}  // namespace halftone
