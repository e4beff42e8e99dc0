// A device whose memory is counted and may be limited.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace halftone::backend {

// Forwards everything to `device`. allocate() throws kOutOfMemory with needed and free bytes when
// more than `limit` bytes would be held at a time (0 = no limit); peak_bytes() is the most that
// was. Buffers may outlive it.
[[nodiscard]] std::unique_ptr<Device> meter(std::unique_ptr<Device> device, uint64_t limit = 0);

}  // namespace halftone::backend
