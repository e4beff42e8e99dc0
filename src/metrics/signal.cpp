#include "metrics/signal.h"

#include <cmath>
#include <limits>

#include "halftone/error.h"

namespace halftone::metrics {

void ErrorSum::add(std::span<const float> reference, std::span<const float> value) {
  check_internal(reference.size() == value.size(), "compared tensors have one size");
  double signal = 0, noise = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double r = reference[i];
    const double d = r - static_cast<double>(value[i]);
    signal += r * r;
    noise += d * d;
  }
  signal_ += signal;
  noise_ += noise;
  count_ += static_cast<double>(reference.size());
}

double ErrorSum::mse() const { return count_ > 0 ? noise_ / count_ : 0; }

double ErrorSum::sqnr() const {
  if (noise_ == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(signal_ / noise_);
}

}  // namespace halftone::metrics
