// What needs no GPU: which kernels exist, what they take and how large they are.
#include "backend/cuda/hopper/project_attention.h"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

namespace halftone::backend::cuda::hopper {
namespace {

TEST(ProjectAttention, EachKernelExistsOnceAndFits) {
  std::set<std::tuple<Element, Element, std::string>> seen;
  for (const ProjectKernel& kernel : project_kernels()) {
    SCOPED_TRACE(kernel.name());
    EXPECT_TRUE(seen.emplace(kernel.in, kernel.element, kernel.name()).second);
    EXPECT_NE(kernel.function, nullptr);
    EXPECT_TRUE(kernel.in == kernel.element || bytes_of(kernel.in) == 1);
    EXPECT_LE(kernel.rows, 256);  // of a box
    EXPECT_LE(kernel.blocks * (kernel.shared_bytes + 1024), 228 * 1024);
  }
}

TEST(ProjectAttention, HeadsOfABlockDivideThem) {
  const auto widest = [](Element in, Element element, int64_t heads) {
    ProjectProblem p;
    p.in = in;
    p.attention.element = element;
    p.attention.heads = heads;
    int most = 0;
    for (const ProjectKernel* kernel : project_candidates(p)) {
      EXPECT_EQ(heads % kernel->heads, 0) << kernel->name();
      most = std::max(most, kernel->heads);
    }
    return most;
  };
  for (const Element element : {Element::kF16, Element::kBF16}) {
    for (const Element in : {element, Element::kS8, Element::kE4M3}) {
      EXPECT_EQ(widest(in, element, 10), 5);
      EXPECT_EQ(widest(in, element, 8), 2);
      EXPECT_EQ(widest(in, element, 7), 1);
    }
  }
  EXPECT_EQ(widest(Element::kF16, Element::kBF16, 10), 0);
}

}  // namespace
}  // namespace halftone::backend::cuda::hopper
