// Measuring library algorithms while a plan is prepared.
#pragma once

#include <functional>

namespace halftone::backend::cuda {

// Milliseconds of one call of `enqueue` (which puts work on the device's stream and succeeds): the
// shortest mean of four replays of a graph of eight calls, after a call outside of it.
[[nodiscard]] double measure_ms(const std::function<void()>& enqueue);

}  // namespace halftone::backend::cuda
