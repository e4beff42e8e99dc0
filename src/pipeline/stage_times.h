// Times of a run's stages on the device, taken without waiting for it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace halftone::pipeline {

struct StageTime {
  // A text encoder's label (those of encoders that overlap, joined by '+'), "vae_encoder", "unet
  // setup", the denoiser's label, "vae"; "host" is all else.
  std::string name;
  int runs = 0;
  double ms = 0;
};

// A stage lasts from the moment when the device comes to its begin to that when it comes to its
// end; what the device waits for the host in between counts, what it waits between stages does not.
// Stages follow each other.
class StageTimer {
 public:
  // Marks are set in `stream`, which must outlive this.
  explicit StageTimer(backend::Stream& stream) : stream_(stream) {}

  void begin() { begun_ = mark(); }
  void end(std::string_view name, int runs) {
    spans_.push_back({std::string(name), runs, begun_, mark()});
  }
  // Marks what is enqueued now; the index is for wait_for().
  [[nodiscard]] size_t mark() {
    stream_.mark(next_);
    return next_++;
  }
  // Returns once the device comes to the mark.
  void wait_for(size_t mark) { stream_.wait_for_mark(mark); }
  // One row a name, in the order of their first stages; waits for the device.
  [[nodiscard]] std::vector<StageTime> times();

 private:
  struct Span {
    std::string name;
    int runs;
    size_t first, last;
  };
  backend::Stream& stream_;
  std::vector<Span> spans_;
  size_t next_ = 0, begun_ = 0;
};

}  // namespace halftone::pipeline
