// Measuring library algorithms while a plan is prepared.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backend/backend.h"

namespace halftone::backend::cuda {

// Milliseconds of one call of `enqueue` (which puts work on the device's stream and succeeds): the
// shortest mean of four replays of a graph of eight calls, after a call outside of it.
[[nodiscard]] double measure_ms(const std::function<void()>& enqueue);

// The faster of two launches that do the same, as measured or as the tuning cache knows under
// `key`; a known winner alone is prepared. `head_start_ms` is taken off the own one's time.
[[nodiscard]] std::unique_ptr<Launch> faster(
    const std::string& key, const std::function<std::unique_ptr<Launch>()>& own,
    const std::function<std::unique_ptr<Launch>()>& library, double head_start_ms = 0);

}  // namespace halftone::backend::cuda
