#include "halftone/error.h"

namespace halftone {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument:
      return "invalid_argument";
    case Errc::kNotFound:
      return "not_found";
    case Errc::kCorruptFile:
      return "corrupt_file";
    case Errc::kUnsupported:
      return "unsupported";
    case Errc::kIncompatiblePlan:
      return "incompatible_plan";
    case Errc::kOutOfMemory:
      return "out_of_memory";
    case Errc::kDeviceLost:
      return "device_lost";
    case Errc::kCancelled:
      return "cancelled";
    case Errc::kIo:
      return "io";
    case Errc::kInternal:
      return "internal";
  }
  return "internal";
}

int exit_code(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument:
      return 2;
    case Errc::kNotFound:
    case Errc::kCorruptFile:
    case Errc::kUnsupported:
      return 3;
    case Errc::kOutOfMemory:
      return 4;
    case Errc::kDeviceLost:
      return 5;
    case Errc::kIncompatiblePlan:
      return 6;
    case Errc::kCancelled:
      return 130;
    case Errc::kIo:
    case Errc::kInternal:
      return 1;
  }
  return 1;
}

}  // namespace halftone
