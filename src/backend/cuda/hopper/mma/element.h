// Element types of the kernel family.
#pragma once

#include <cstdint>

namespace halftone::backend::cuda::hopper {

enum class Element : uint8_t { kS8, kE4M3, kF16, kBF16, kF32 };

[[nodiscard]] constexpr int bytes_of(Element element) {
  return element == Element::kF32                                ? 4
         : element == Element::kF16 || element == Element::kBF16 ? 2
                                                                 : 1;
}

}  // namespace halftone::backend::cuda::hopper
