#pragma once

#include "case.h"

namespace halftone::conformance {

// Head widths of the models, ragged numbers of queries and keys, causal masks, no queries.
inline std::vector<Case> attention_cases() {
  struct Size {
    int64_t batch, queries, keys, heads, width;
  };
  std::vector<Case> cases;
  const auto add = [&](DType t, Size s, bool causal) {
    Case c;
    c.name = std::string(to_string(t)) + " " +
             text({s.batch, s.queries, s.keys, s.heads, s.width}) + (causal ? " causal" : "");
    const double scale = 1.0 / std::sqrt(static_cast<double>(s.width));
    c.attrs = graph::Attention{s.heads, scale, causal};
    const int64_t channels = s.heads * s.width;
    c.inputs = {{Role::kQ, {t, {s.batch, s.queries, channels}}, Fill::kNormal},
                {Role::kK, {t, {s.batch, s.keys, channels}}, Fill::kNormal},
                {Role::kV, {t, {s.batch, s.keys, channels}}, Fill::kNormal}};
    // The magnitude is that of uniform weights over |v|. A score's error, width * eps * sum|q||k| *
    // scale, is about width * sqrt(width) * 0.64 eps and changes a weight by that factor; the sum
    // over keys adds `keys`; a weight may exceed the mean by e^4. Kernels for bf16 may round the
    // weights to it, which moves the sum by less than 2^-9 of that of absolute values.
    c.roundings = 1.0;
    c.depth =
        55.0 * (std::pow(static_cast<double>(s.width), 1.5) + static_cast<double>(s.keys) + 16.0);
    if (t == DType::kBF16) c.depth += 4.0 * std::ldexp(1.0, 23 - 9);
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    for (const int64_t width : {8, 32, 40, 64, 80, 160, 512}) add(t, {1, 20, 33, 2, width}, false);
    add(t, {2, 130, 77, 3, 64}, false);
    add(t, {1, 260, 260, 1, 64}, false);
    add(t, {2, 77, 77, 2, 64}, true);
    add(t, {1, 200, 200, 2, 20}, true);
    add(t, {1, 1, 1, 1, 8}, true);
    add(t, {1, 5, 3, 2, 7}, false);
    add(t, {1, 0, 3, 2, 8}, false);
  }
  return cases;
}

}  // namespace halftone::conformance
