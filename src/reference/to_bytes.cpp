#include <algorithm>
#include <cmath>

#include "reference/ops.h"

namespace halftone::reference {

void run(const graph::ToBytes& /*op*/, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  std::vector<double> y(x.size());
  std::ranges::transform(x, y.begin(), [](float v) {
    const float inside = std::isnan(v) ? 0.0F : std::clamp(v, 0.0F, 1.0F);
    return static_cast<double>(std::nearbyint(255.0F * inside));
  });
  store(y, call.outputs[0]);
  const bool finite = std::ranges::all_of(x, [](float v) { return std::isfinite(v); });
  store(std::vector<double>{finite ? 0.0 : 1.0}, call.outputs[1]);
}

}  // namespace halftone::reference
