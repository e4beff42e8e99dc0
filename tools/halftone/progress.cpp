#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include "common.h"

namespace halftone::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

enum class Style { kBar, kPlain, kJson, kNone };

Style style_of(const CommonOptions& common) {
  if (common.progress == "bar") return Style::kBar;
  if (common.progress == "plain") return Style::kPlain;
  if (common.progress == "json") return Style::kJson;
  if (common.progress == "none" || common.quiet) return Style::kNone;
  return isatty(STDERR_FILENO) != 0 ? Style::kBar : Style::kPlain;
}

// "3.41it/s", or "1.20s/it" when slower than one a second.
std::string rate(double per_second) {
  if (per_second >= 1.0) return fmt::format("{:.2f}it/s", per_second);
  return per_second > 0 ? fmt::format("{:.2f}s/it", 1.0 / per_second) : std::string("-");
}

class Printer {
 public:
  explicit Printer(Style style) : style_(style) {}

  void show(const Progress& progress) {
    if (style_ == Style::kNone) return;
    if (progress.stage != stage_ || progress.done == 0 || progress.image != image_) {
      start_ = Clock::now();
      first_done_ = progress.done;
      stage_ = progress.stage;
      image_ = progress.image;
      last_line_ = start_;
    }
    switch (style_) {
      case Style::kBar:
        bar(progress);
        break;
      case Style::kPlain:
        plain(progress);
        break;
      case Style::kJson:
        json(progress);
        break;
      case Style::kNone:
        break;
    }
    std::fflush(stderr);
  }

 private:
  [[nodiscard]] double per_second(const Progress& progress) const {
    const double elapsed = seconds_since(start_);
    return elapsed > 0 ? (progress.done - first_done_) / elapsed : 0;
  }
  [[nodiscard]] static double eta(const Progress& progress, double speed) {
    return speed > 0 ? (progress.total - progress.done) / speed : 0;
  }

  void bar(const Progress& progress) {
    const bool finished = progress.total > 0 && progress.done >= progress.total;
    if (finished && progress.stage != "denoise") {
      fmt::print(stderr, "\r\033[K");
      return;
    }
    if (!finished && progress.stage != "denoise" && seconds_since(last_line_) < 0.1) return;
    last_line_ = Clock::now();
    const double speed = per_second(progress);
    const int width = 30;
    const int filled = progress.total > 0 ? width * progress.done / progress.total : 0;
    fmt::print(stderr, "\r\033[K{:<8}|{:<{}}| {}/{} {} eta {:.1f}s", progress.stage,
               std::string(static_cast<size_t>(filled), '='), width, progress.done, progress.total,
               rate(speed), eta(progress, speed));
    if (finished) fmt::print(stderr, "\n");
  }

  // A line when a stage ends, and one every two seconds of a long one.
  void plain(const Progress& progress) {
    const bool finished = progress.total > 0 && progress.done >= progress.total;
    const bool due = seconds_since(last_line_) >= 2.0;
    if (progress.stage != "denoise" && !(due && progress.total > 0)) return;
    if (progress.done == 0 || (!finished && !due)) return;
    last_line_ = Clock::now();
    const double speed = per_second(progress);
    fmt::print(stderr, "{} {}/{} {} eta {:.1f}s\n", progress.stage, progress.done, progress.total,
               rate(speed), eta(progress, speed));
  }

  void json(const Progress& progress) const {
    const double speed = per_second(progress);
    const std::string_view event = progress.stage == "denoise" ? "step" : progress.stage;
    fmt::print(stderr,
               "{{\"event\":\"{}\",\"stage\":\"{}\",\"image\":{},\"step\":{},\"steps\":{},"
               "\"it_per_s\":{:.3f},\"eta_s\":{:.2f}}}\n",
               event, progress.stage, progress.image, progress.done, progress.total, speed,
               eta(progress, speed));
  }

  Style style_;
  std::string stage_;
  int image_ = 0;
  int first_done_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_line_ = start_;
};

}  // namespace

ProgressCallback make_progress(const CommonOptions& common) {
  auto printer = std::make_shared<Printer>(style_of(common));
  return [printer](const Progress& progress) {
    printer->show(progress);
    return stop_signal() == 0;
  };
}

}  // namespace halftone::cli
