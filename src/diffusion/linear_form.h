// A latent written as a linear combination of what a step can read: the arithmetic in which the
// schedulers are written, so that a formula becomes a row of numbers.
#pragma once

#include <array>
#include <cstddef>

#include "tensor/step_coefficients.h"

namespace halftone::diffusion {

// weights of [state_0 .. state_4, output, noise].
struct LinearForm {
  std::array<double, kMaxState + 2> weights{};

  static LinearForm state(int slot) { return unit(static_cast<size_t>(slot)); }
  static LinearForm output() { return unit(kMaxState); }
  static LinearForm noise() { return unit(kMaxState + 1); }

  LinearForm& operator+=(const LinearForm& other) {
    for (size_t i = 0; i < weights.size(); ++i) weights[i] += other.weights[i];
    return *this;
  }
  friend LinearForm operator+(LinearForm a, const LinearForm& b) { return a += b; }
  friend LinearForm operator*(double factor, LinearForm a) {
    for (double& w : a.weights) {
      if (w != 0.0) w *= factor;  // an infinite factor must not turn absent terms into NaN
    }
    return a;
  }
  friend LinearForm operator-(const LinearForm& a, const LinearForm& b) { return a + -1.0 * b; }

 private:
  static LinearForm unit(size_t i) {
    LinearForm form;
    form.weights[i] = 1.0;
    return form;
  }
};

}  // namespace halftone::diffusion
