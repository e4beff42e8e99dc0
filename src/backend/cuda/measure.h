// Measuring library algorithms while a plan is prepared.
#pragma once

#include <functional>

namespace halftone::backend::cuda {

// Milliseconds of one call of `enqueue` (which puts work on the device's stream): the shortest mean
// of three short series, after a warm-up.
[[nodiscard]] double measure_ms(const std::function<void()>& enqueue);

}  // namespace halftone::backend::cuda
