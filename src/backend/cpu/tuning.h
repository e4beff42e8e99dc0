// Choices that are measured while a plan is prepared. One cache a process, as the threads are; safe
// from any thread.
#pragma once

#include <functional>
#include <string>

namespace halftone::backend::cpu {

// Takes up what `file` has and keeps later choices there; empty = nowhere.
void open_tuning(const std::string& file);
void save_tuning();

// Seconds since some moment; never goes back.
[[nodiscard]] double steady_seconds();

// The candidate in [0, count) that `key` is known to want; else the one whose run(candidate) takes
// the least time by `clock`, each run a few times.
[[nodiscard]] int fastest(const std::string& key, int count, const std::function<void(int)>& run,
                          const std::function<double()>& clock = steady_seconds);

}  // namespace halftone::backend::cpu
