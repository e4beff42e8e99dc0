// Every kernel for few tokens, also those that would not be chosen, beside double; the same bytes
// in many runs. Skipped without such a GPU.
#include <cstring>

#include "backend/cuda/hopper/few_tokens.h"
#include "tile_problems.h"

namespace halftone::conformance {
namespace {

using backend::cuda::hopper::Element;
using backend::cuda::hopper::FewTokens;
using backend::cuda::hopper::FewTokensKernel;
using backend::cuda::hopper::FewTokensProblem;
using backend::cuda::hopper::GemmShape;

// Weights that the launch before may have written at first, then such that are read ahead of it.
void expect_few_tokens(const Problem& p, int sms) {
  const GemmShape& s = p.shape;
  const Data data(p);
  const Expected expected(p, data);
  const DeviceTensor x(data.x), weight(data.weight), residual(data.residual), bias(data.bias),
      scale(data.column_scale);
  Tensor y(TensorType{dtype_of(s.out), {s.m, s.n}});
  Tensor again = y.clone();
  DeviceTensor result(y);
  FewTokensProblem few;
  few.element = s.in;
  few.codes = p.codes;
  few.scale = scale.as<float>();
  few.num_sms = sms;
  few.m = static_cast<int>(s.m);
  few.n = few.y_pitch = few.residual_pitch = static_cast<int>(s.n);
  few.k = few.x_pitch = static_cast<int>(s.channels);
  few.x = x.data();
  few.weight = weight.data();
  few.y = result.data();
  few.residual = s.residual ? residual.data() : nullptr;
  few.bias = bias.data();
  for (const FewTokensKernel& kernel : backend::cuda::hopper::few_tokens_kernels()) {
    if (kernel.element != s.in || kernel.codes != p.codes || kernel.tokens < s.m) continue;
    SCOPED_TRACE(kernel.name());
    few.constant_weight = false;
    result.spoil();
    FewTokens(kernel, few).launch(nullptr);
    result.read(y);
    expect_close(y, expected, p.codes ? 1e-7F : 1e-5F);
    few.constant_weight = true;
    const FewTokens bound(kernel, few);
    result.spoil();
    for (int run = 0; run < kRuns; ++run) bound.launch(nullptr);
    result.read(again);
    EXPECT_EQ(std::memcmp(y.data(), again.data(), y.type().num_bytes()), 0) << "another result";
  }
}

TEST(HopperFewTokens, EachEqualsDoubleAndItself) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const Element element : {Element::kF16, Element::kBF16}) {
    for (const Problem& p : {linear("one token", element, element, 1, 1304, 1288, true),
                             linear("77 tokens", element, element, 77, 200, 2056, true),
                             linear("full tile", element, element, 80, 328, 456, false),
                             linear("154 tokens", element, element, 154, 328, 776, true),
                             linear("one step", element, element, 160, 8, 8, false),
                             linear("many tiles", element, element, 81, 8448, 72, true)}) {
      SCOPED_TRACE(p.name);
      SCOPED_TRACE(static_cast<int>(element));
      expect_few_tokens(p, sms);
    }
  }
}

TEST(HopperFewTokens, EachOfCodesEqualsDoubleAndItself) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const Element element : {Element::kF16, Element::kBF16}) {
    for (const Element codes : {Element::kS8, Element::kE4M3}) {
      for (const Problem& p : {linear("one token", element, element, 1, 1304, 1296, true),
                               linear("77 tokens", element, element, 77, 200, 2064, true),
                               linear("full tile", element, element, 80, 328, 464, false),
                               linear("154 tokens", element, element, 154, 328, 784, true),
                               linear("one step", element, element, 160, 8, 16, false),
                               linear("four and five parts", element, element, 77, 35848, 80, true),
                               linear("two rounds", element, element, 81, 26008, 48, false)}) {
        SCOPED_TRACE(p.name);
        SCOPED_TRACE(static_cast<int>(element));
        SCOPED_TRACE(static_cast<int>(codes));
        expect_few_tokens(weight_only(p, codes), sms);
      }
    }
  }
}

}  // namespace
}  // namespace halftone::conformance
