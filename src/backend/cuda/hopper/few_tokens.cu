// The kernels for few tokens and weights of 16 bits.
#include "backend/cuda/hopper/few_tokens.cuh"

namespace halftone::backend::cuda::hopper {
namespace {

// The shortest list by which every linear of SDXL's text encoders is within 2 % of the fastest of
// all tiles that were tried (bench/results/h200/few_tokens.txt).
template <Element kElement>
void append(std::vector<FewTokensKernel>& all) {
  all.push_back(instance<kElement, kElement, 80, 1, 5>(2048));
  all.push_back(instance<kElement, kElement, 80, 1, 3>(1024));
  all.push_back(instance<kElement, kElement, 80, 1, 2>(0));
  all.push_back(instance<kElement, kElement, 80, 2, 2>(0));
  all.push_back(instance<kElement, kElement, 160, 1, 5>(768));
  all.push_back(instance<kElement, kElement, 160, 1, 2>(0));
  all.push_back(instance<kElement, kElement, 160, 2, 2>(0));
}

}  // namespace

std::span<const FewTokensKernel> few_tokens_kernels() {
  static const std::vector<FewTokensKernel> kAll = [] {
    std::vector<FewTokensKernel> all;
    append<Element::kF16>(all);
    append<Element::kBF16>(all);
    append_few_tokens_codes(all);
    return all;
  }();
  return kAll;
}

}  // namespace halftone::backend::cuda::hopper
