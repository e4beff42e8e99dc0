// Element types of the graph as those of the kernel family.
#pragma once

#include <optional>

#include "backend/cuda/hopper/mma/element.h"
#include "tensor/dtype.h"

namespace halftone::backend::cuda::hopper {

// Nothing for a type that no kernel of the family takes.
[[nodiscard]] constexpr std::optional<Element> element_of(DType dtype) {
  switch (dtype) {
    case DType::kI8:
      return Element::kS8;
    case DType::kF8E4M3:
      return Element::kE4M3;
    case DType::kF16:
      return Element::kF16;
    case DType::kBF16:
      return Element::kBF16;
    default:
      return std::nullopt;
  }
}

}  // namespace halftone::backend::cuda::hopper
