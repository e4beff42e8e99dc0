// The one exception type of Halftone and its codes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace halftone {

enum class Errc : uint8_t {
  kInvalidArgument,   // a parameter or flag is wrong
  kNotFound,          // a model, file or tensor is missing
  kCorruptFile,       // a file breaks its format's rules
  kUnsupported,       // well-formed, but of a kind that Halftone does not handle
  kIncompatiblePlan,  // a plan does not fit this device, model, shape or version
  kOutOfMemory,
  kDeviceLost,
  kCancelled,
  kIo,        // the operating system refused: disk full, permissions, ...
  kInternal,  // our own bug
};

// Name as printed in JSON errors: "corrupt_file", ...
std::string_view to_string(Errc code);
// Exit code of the command for an error code (interfaces: 1 other, 2 usage, 3 model, 4 memory,
// 5 device, 6 plan, 130 cancelled).
int exit_code(Errc code);

// The parts of a message that a program may want to read; empty where not known.
struct ErrorDetails {
  std::string file{};
  std::optional<uint64_t> offset{};  // byte in the file
  std::string key{};                 // key of a config, name of a tensor or of a parameter
  std::string got{}, wanted{}, remedy{};
};

// Thrown by every layer; the message says what, where, got, wanted and remedy.
class Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& message, ErrorDetails details,
        std::source_location location = std::source_location::current())
      : std::runtime_error(message),
        code_(code),
        location_(location),
        details_(std::make_shared<const ErrorDetails>(std::move(details))) {}
  Error(Errc code, const std::string& message,
        std::source_location location = std::source_location::current())
      : std::runtime_error(message), code_(code), location_(location) {}
  [[nodiscard]] Errc code() const { return code_; }
  [[nodiscard]] const std::source_location& location() const { return location_; }
  // Null when there are none.
  [[nodiscard]] const ErrorDetails* details() const { return details_.get(); }

 private:
  Errc code_;
  std::source_location location_;
  std::shared_ptr<const ErrorDetails> details_;
};

// Guards an invariant of our own code: throws kInternal with `text` when `condition` is false.
inline void check_internal(bool condition, std::string_view text,
                           std::source_location location = std::source_location::current()) {
  if (!condition)
    throw Error(Errc::kInternal, std::string("internal error: ").append(text), location);
}

}  // namespace halftone
