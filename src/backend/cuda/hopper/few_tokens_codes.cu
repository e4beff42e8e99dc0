// The kernels for few tokens and weights of 8 bits.
#include "backend/cuda/hopper/few_tokens.cuh"

namespace halftone::backend::cuda::hopper {
namespace {

// Few outputs divide their terms; many, as those of merge_text_kv, need no more blocks than SMs.
template <Element kElement, Element kWeight>
void append(std::vector<FewTokensKernel>& all) {
  all.push_back(instance<kElement, kWeight, 80, 1, 5>(1024));
  all.push_back(instance<kElement, kWeight, 80, 1, 2>(0));
  all.push_back(instance<kElement, kWeight, 80, 5, 1>(0));
  all.push_back(instance<kElement, kWeight, 160, 1, 5>(768));
  all.push_back(instance<kElement, kWeight, 160, 1, 2>(0));
  all.push_back(instance<kElement, kWeight, 160, 3, 1>(0));
}

}  // namespace

void append_few_tokens_codes(std::vector<FewTokensKernel>& all) {
  append<Element::kF16, Element::kS8>(all);
  append<Element::kF16, Element::kE4M3>(all);
  append<Element::kBF16, Element::kS8>(all);
  append<Element::kBF16, Element::kE4M3>(all);
}

}  // namespace halftone::backend::cuda::hopper
