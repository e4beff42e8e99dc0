// Logging and progress as callbacks: the library itself never prints.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace halftone {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Receives every message of the library; silent when empty. Called from the thread that logs.
using Logger =
    std::function<void(LogLevel level, std::string_view component, std::string_view text)>;

struct Progress {
  std::string_view stage;  // "load", "build", "text", "denoise", "decode", "write"
  int done = 0;            // finished units
  int total = 0;           // all units; 0 when unknown
  int image = 0;           // index of the batch in flight
};
// Returning false cancels at the next step boundary (Errc::kCancelled).
using ProgressCallback = std::function<bool(const Progress&)>;

inline void log(const Logger& logger, LogLevel level, std::string_view component,
                std::string_view text) {
  if (logger) logger(level, component, text);
}

}  // namespace halftone
