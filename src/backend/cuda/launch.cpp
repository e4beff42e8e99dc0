#include "backend/cuda/launch.h"

#include <atomic>

namespace halftone::backend::cuda {
namespace {

std::atomic<bool>& slot() {
  static std::atomic<bool> overlaps{true};
  return overlaps;
}

}  // namespace

bool overlaps_launches() { return slot(); }
void set_overlap_launches(bool on) { slot() = on; }

}  // namespace halftone::backend::cuda
