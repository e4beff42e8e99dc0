// How far a tensor is from its reference.
#pragma once

#include <span>

namespace halftone::metrics {

// Sums over pairs of values; add() may be called for one part after another.
class ErrorSum {
 public:
  // Spans of equal length.
  void add(std::span<const float> reference, std::span<const float> value);

  // Mean of (reference - value)^2; 0 before the first value.
  [[nodiscard]] double mse() const;
  // 10 log10(sum reference^2 / sum (reference - value)^2) in dB; infinite without any error.
  [[nodiscard]] double sqnr() const;

 private:
  double signal_ = 0, noise_ = 0;
  double count_ = 0;
};

}  // namespace halftone::metrics
