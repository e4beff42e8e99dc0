// Measuring launches while a plan is prepared.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backend/cuda/call.h"

namespace halftone::backend::cuda {

// Milliseconds of one call of `enqueue` (which puts work on the device's stream and succeeds): the
// shortest mean of four replays of a graph of eight calls, after a call outside of it.
[[nodiscard]] double measure_ms(const std::function<void()>& enqueue);

// A kernel of the library neither starts early nor lets its successor: what overlapping gains.
inline constexpr double kOverlapMs = 0.001;

// The faster of two launches that do the same, as measured or as the tuning cache knows under
// `key`; a known winner alone is prepared. `head_start_ms` is taken off the own one's time.
[[nodiscard]] std::unique_ptr<Launch> faster(
    const std::string& key, const std::function<std::unique_ptr<Launch>()>& own,
    const std::function<std::unique_ptr<Launch>()>& library, double head_start_ms = 0);

// The same for an op whose weight is in memory when its turn comes, as in a network of few rows and
// more weights than the second level cache holds: what is measured takes turns with copies of the
// weight. They take 1.5 times that cache and one weight for a moment; where the device has no room
// for them, the weight itself is read over and over.
[[nodiscard]] std::unique_ptr<Launch> faster_from_memory(
    const std::string& key, const graph::OpDesc& desc, const Operands& operands,
    const std::function<std::unique_ptr<Launch>(const Operands&)>& own,
    const std::function<std::unique_ptr<Launch>(const Operands&)>& library,
    double head_start_ms = 0);

// A launch of one of the two on other operands.
using LaunchMaker = std::function<std::unique_ptr<Launch>(const Operands&)>;

// How faster_kernel() chooses: on the op's own operands.
[[nodiscard]] std::unique_ptr<Launch> faster_on_operands(const std::string& key,
                                                         const graph::OpDesc& desc,
                                                         const Operands& operands,
                                                         const LaunchMaker& own,
                                                         const LaunchMaker& library);

// For attention, whose time depends on the values that it reads: zeros take the place of q, k and v
// while it is measured, and the own one has a head start of kOverlapMs. Before the first run they
// lie in memory that nothing has written, where anything may be found. Where the device has no room
// for zeros, that is measured.
[[nodiscard]] std::unique_ptr<Launch> faster_on_zeros(const std::string& key,
                                                      const graph::OpDesc& desc,
                                                      const Operands& operands,
                                                      const LaunchMaker& own,
                                                      const LaunchMaker& library);

// A kernel that is the faster of two where both serve an op. kKey(desc, operands) tells one case
// from another in the tuning cache; the own kernel needs no workspace.
template <const Kernel& kOwn, const Kernel& kLibrary, auto kKey, auto kChoose = faster_on_operands>
[[nodiscard]] constexpr Kernel faster_kernel(std::string_view name, graph::OpKind op) {
  return plain_kernel(
      name, op,
      [](const graph::OpDesc& desc, const DeviceInfo& info) {
        if (Support own = kOwn.supports(desc, info); !own.ok) return own;
        return kLibrary.supports(desc, info);
      },
      [](const graph::OpDesc& desc, const DeviceInfo& info, Config config,
         const Operands& operands) {
        return kChoose(
            kKey(desc, operands), desc, operands,
            [&](const Operands& with) { return kOwn.prepare(desc, info, config, with); },
            [&](const Operands& with) { return kLibrary.prepare(desc, info, config, with); });
      },
      [](const graph::OpDesc& desc, const DeviceInfo& info, Config config) {
        return kLibrary.workspace_bytes(desc, info, config);
      });
}

}  // namespace halftone::backend::cuda
