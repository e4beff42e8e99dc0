#include "halftone/options.h"

namespace halftone {

std::string_view to_string(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
      return "auto";
    case Precision::kF32:
      return "fp32";
    case Precision::kBF16:
      return "bf16";
    case Precision::kF16:
      return "fp16";
    case Precision::kI8:
      return "int8";
    case Precision::kF8:
      return "fp8";
  }
  return "auto";
}

std::string_view to_string(Rng rng) { return rng == Rng::kCpu ? "cpu" : "cuda"; }

}  // namespace halftone
