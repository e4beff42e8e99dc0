#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Sinusoidal embedding of every element v of x (f32 [...]): y f32 [..., dim], half = dim/2,
// f_i = exp(-ln(max_period) * i / (half - freq_shift)); [sin(v f), cos(v f)], or [cos, sin] when
// flip_sin_to_cos (diffusers get_timestep_embedding; dim is even).
struct Sinusoidal {
  static constexpr std::string_view kName = "sinusoidal";
  int64_t dim = 0;
  bool flip_sin_to_cos = true;
  double freq_shift = 0.0;
  double max_period = 10000.0;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("dim", self.dim);
    f("flip_sin_to_cos", self.flip_sin_to_cos);
    f("freq_shift", self.freq_shift);
    f("max_period", self.max_period);
  }
  bool operator==(const Sinusoidal&) const = default;
};
std::vector<TensorType> infer(const Sinusoidal& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
