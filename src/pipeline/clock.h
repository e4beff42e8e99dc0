#pragma once

#include <chrono>

namespace halftone::pipeline {

// Wall time since it was made.
class Stopwatch {
 public:
  [[nodiscard]] double ms() const {
    const std::chrono::duration<double, std::milli> elapsed = Clock::now() - start_;
    return elapsed.count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace halftone::pipeline
