#pragma once

#include "case.h"

namespace halftone::conformance {

// Head widths of the models, ragged numbers of queries and keys, causal masks, no queries; more
// heads than a GPU has SMs; scores that spread so far (`gain`) that later keys outweigh the first
// ones by many powers of two.
inline std::vector<Case> attention_cases() {
  struct Size {
    int64_t batch, queries, keys, heads, width;
    double gain = 1.0;
  };
  std::vector<Case> cases;
  const auto add = [&](DType t, Size s, bool causal) {
    Case c;
    c.name = std::string(to_string(t)) + " " +
             text({s.batch, s.queries, s.keys, s.heads, s.width}) + (causal ? " causal" : "") +
             (s.gain > 1.0 ? " spread" : "");
    const double scale = s.gain / std::sqrt(static_cast<double>(s.width));
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
    c.depth = 55.0 * (s.gain * std::pow(static_cast<double>(s.width), 1.5) +
                      static_cast<double>(s.keys) + 16.0);
    if (t == DType::kBF16) c.depth += 4.0 * std::ldexp(1.0, 23 - 9);
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    for (const int64_t width : {8, 32, 40, 64, 80, 160, 512}) add(t, {1, 20, 33, 2, width}, false);
    add(t, {2, 130, 77, 3, 64}, false);
    add(t, {1, 40, 64, 2, 512}, false);  // keys in eights: products of matrices take it
    add(t, {1, 260, 260, 1, 64}, false);
    add(t, {2, 77, 77, 2, 64}, true);
    add(t, {1, 128, 128, 1, 64}, true);
    add(t, {2, 450, 77, 2, 64}, false);  // several tiles of queries
    add(t, {1, 70, 1, 2, 64}, false);
    add(t, {3, 1, 81, 1, 64}, false);
    add(t, {1, 0, 5, 1, 64}, false);
    add(t, {1, 200, 200, 2, 20}, true);
    add(t, {1, 1, 1, 1, 8}, true);
    add(t, {1, 5, 3, 2, 7}, false);
    add(t, {1, 0, 3, 2, 8}, false);
    add(t, {1, 20, 390, 1, 64, 16.0}, false);
  }
  // Two or three heads for each of 132 blocks, of one tile of keys; one of two tiles, then for some
  // blocks half of another.
  add(DType::kF16, {2, 1, 9, 140, 64}, false);
  add(DType::kBF16, {1, 66, 3, 140, 64}, false);
  add(DType::kF16, {1, 1, 130, 140, 64}, false);
  return cases;
}

// Parts in 8 bits: codes of q and k with one scale or one for each head's part of a token, codes of
// v, rounded probabilities; scores from flat to peaked; results in codes too.
inline std::vector<Case> quantized_attention_cases() {
  struct Size {
    int64_t batch, queries, keys, heads, width;
  };
  struct Form {
    DType qk, v, out;
    bool by_part, rounds;
  };
  std::vector<Case> cases;
  const auto add = [&](const Form& f, Size s, double scale, bool causal) {
    Case c;
    c.name = "quantized " + std::string(to_string(f.qk)) + "," + std::string(to_string(f.v)) + "," +
             std::string(to_string(f.out)) + " " +
             text({s.batch, s.queries, s.keys, s.heads, s.width}) + (f.by_part ? " part" : "") +
             (f.rounds ? " rounds" : "") + (causal ? " causal" : "");
    const bool codes = size_of(f.qk) == 1;
    const auto root = std::sqrt(static_cast<double>(s.width));
    graph::Attention op{s.heads, scale / root, causal};
    if (f.rounds) op.probabilities = DType::kF8E4M3;
    if (codes) op.out = f.out;
    c.attrs = op;
    const int64_t channels = s.heads * s.width;
    const auto operand = [&](Role role, Role scale_role, DType t, int64_t tokens, bool by_part) {
      c.inputs.push_back(
          {role, {t, {s.batch, tokens, channels}}, size_of(t) == 1 ? Fill::kCodes : Fill::kNormal});
      if (size_of(t) != 1) return;
      const int64_t scales = by_part ? s.batch * tokens * s.heads : 1;
      c.inputs.push_back({scale_role, {DType::kF32, {scales}}, Fill::kScales});
    };
    operand(Role::kQ, Role::kQScale, f.qk, s.queries, f.by_part);
    operand(Role::kK, Role::kKScale, f.qk, s.keys, f.by_part);
    operand(Role::kV, Role::kVScale, f.v, s.keys, false);
    // As above; codes of 8 bits spread a little more than normal values.
    c.roundings = 1.0;
    c.depth = 110.0 * (std::pow(static_cast<double>(s.width), 1.5) + static_cast<double>(s.keys));
    if (f.rounds) c.rare = 0.02;
    if (size_of(f.out) == 1) {
      c.inputs.push_back({Role::kYScale,
                          {DType::kF32, {1}},
                          f.out == DType::kI8 ? Fill::kWideScales : Fill::kUnitScales});
    }
    cases.push_back(std::move(c));
  };
  const std::vector<Size> sizes{{1, 20, 33, 2, 32},
                                {2, 66, 77, 1, 64},
                                {1, 5, 3, 2, 16},
                                {1, 18, 130, 1, 80},
                                {1, 0, 3, 2, 16}};
  for (const Size& s : sizes) {
    for (const DType t : kFloats) {
      if (t != DType::kF32 && s.queries > 20) continue;
      add({t, t, t, false, true}, s, 1.0, false);
      add({t, DType::kF8E4M3, t, false, true}, s, 1.0, false);
      add({DType::kI8, DType::kF8E4M3, t, true, true}, s, 1.0, false);
    }
    add({DType::kF8E4M3, DType::kF8E4M3, DType::kF32, false, true}, s, 1.0, false);
    add({DType::kF8E4M3, DType::kF8E4M3, DType::kF32, true, true}, s, 1.0, false);
    add({DType::kI8, DType::kF32, DType::kF32, false, false}, s, 1.0, false);
  }
  add({DType::kF8E4M3, DType::kF8E4M3, DType::kF32, true, true}, {2, 40, 40, 2, 32}, 1.0, true);
  // Heads of 64 channels with results in 16 bits: several tiles of keys, one key, no queries.
  for (const Size& s : {Size{2, 70, 77, 2, 64}, Size{1, 20, 300, 3, 64}, Size{1, 130, 128, 1, 64},
                        Size{3, 1, 1, 2, 64}, Size{1, 0, 3, 1, 64}}) {
    for (const DType t : {DType::kF16, DType::kBF16}) {
      add({DType::kF8E4M3, DType::kF8E4M3, t, false, true}, s, 1.0, false);
      add({DType::kF8E4M3, DType::kF8E4M3, t, true, true}, s, 1.0, false);
      add({DType::kI8, DType::kF8E4M3, t, true, true}, s, 1.0, false);
    }
    add({DType::kI8, DType::kF8E4M3, DType::kF16, false, true}, s, 1.0, false);
  }
  // Codes in and out.
  for (const Size& s : {Size{1, 5, 3, 2, 16}, Size{1, 18, 130, 1, 80}, Size{2, 70, 77, 2, 64},
                        Size{1, 20, 300, 3, 64}, Size{1, 130, 128, 1, 64}, Size{2, 256, 256, 2, 64},
                        Size{1, 200, 450, 1, 64}, Size{3, 1, 1, 2, 64}, Size{1, 0, 3, 1, 64}}) {
    for (const DType out : {DType::kF8E4M3, DType::kI8}) {
      add({DType::kF8E4M3, DType::kF8E4M3, out, false, true}, s, 1.0, false);
      add({DType::kF8E4M3, DType::kF8E4M3, out, true, true}, s, 1.0, false);
      add({DType::kI8, DType::kF8E4M3, out, true, true}, s, 1.0, false);
    }
  }
  return cases;
}

// Results in codes of a static scale.
inline std::vector<Case> coded_attention_cases() {
  struct Size {
    int64_t batch, queries, keys, heads, width;
    bool causal = false;
  };
  std::vector<Case> cases;
  const auto add = [&](DType t, DType out, const Size& s) {
    Case c;
    c.name = "attention to codes " + std::string(to_string(t)) + "," + std::string(to_string(out)) +
             " " + text({s.batch, s.queries, s.keys, s.heads, s.width}) +
             (s.causal ? " causal" : "");
    graph::Attention op{s.heads, 1.0 / std::sqrt(static_cast<double>(s.width)), s.causal};
    op.out = out;
    c.attrs = op;
    const int64_t channels = s.heads * s.width;
    c.inputs = {{Role::kQ, {t, {s.batch, s.queries, channels}}, Fill::kNormal},
                {Role::kK, {t, {s.batch, s.keys, channels}}, Fill::kNormal},
                {Role::kV, {t, {s.batch, s.keys, channels}}, Fill::kNormal},
                {Role::kYScale,
                 {DType::kF32, {1}},
                 out == DType::kI8 ? Fill::kWideScales : Fill::kUnitScales}};
    // What is rounded differs by the rounding of weights to t and, where a library's kernel comes
    // before, of its result: of a code at most 127 * eps / 2. Truncation would move half of them.
    c.rare = t == DType::kBF16 ? 0.25 : t == DType::kF16 ? 0.06 : 0.01;
    cases.push_back(std::move(c));
  };
  for (const DType out : {DType::kI8, DType::kF8E4M3}) {
    for (const DType t : kFloats) {
      add(t, out, {1, 20, 33, 2, 40});
      add(t, out, {1, 70, 1, 2, 64});
      if (t == DType::kF32) continue;
      add(t, out, {2, 130, 77, 3, 64});
      add(t, out, {2, 77, 77, 1, 64, true});
      add(t, out, {2, 200, 180, 1, 64});
      add(t, out, {1, 0, 5, 1, 64});
    }
    add(DType::kF16, out, {1, 128, 128, 1, 64, true});
    add(DType::kF16, out, {1, 450, 77, 1, 64});
    add(DType::kF16, out, {3, 1, 81, 1, 64});
    add(DType::kF16, out, {1, 260, 260, 2, 64});
    add(DType::kF16, out, {1, 66, 3, 140, 64});  // more heads than SMs
    add(DType::kBF16, out, {1, 40, 64, 1, 512});
  }
  return cases;
}

// Attentions that compute their queries: of values, of codes with one scale or one for each row of
// x; results in values or codes.
struct ProjectedSize {
  int64_t batch, queries, keys, heads, in;
};
struct ProjectedForm {
  DType x, k, out;  // out: k's type, or codes
  bool row_scales;
};

inline Case projected_attention(const ProjectedForm& f, const ProjectedSize& s) {
  Case c;
  c.name = "projected " + std::string(to_string(f.x)) + "," + std::string(to_string(f.k)) + "," +
           std::string(to_string(f.out)) + " " + text({s.batch, s.queries, s.keys, s.heads, s.in}) +
           (f.row_scales ? " row scales" : "");
  const bool codes = size_of(f.x) == 1;
  // Scores are about 1: of codes with their scales, queries are 0.2 to 0.4 sqrt(in).
  const double scale = codes ? 0.5 / std::sqrt(static_cast<double>(s.in)) : 0.125;
  graph::Attention op{s.heads, scale, false};
  if (f.out != f.k) op.out = f.out;
  c.attrs = op;
  const int64_t channels = s.heads * 64;
  c.inputs = {{Role::kX, {f.x, {s.batch, s.queries, s.in}}, codes ? Fill::kCodes : Fill::kNormal},
              {Role::kWeight, {f.x, {channels, s.in}}, codes ? Fill::kCodes : Fill::kWeights},
              {Role::kK, {f.k, {s.batch, s.keys, channels}}, Fill::kNormal},
              {Role::kV, {f.k, {s.batch, s.keys, channels}}, Fill::kNormal}};
  if (codes) {
    const int64_t scales = f.row_scales ? s.batch * s.queries : 1;
    c.inputs.push_back({Role::kXScale, {DType::kF32, {scales}}, Fill::kScales});
    c.inputs.push_back({Role::kWScale, {DType::kF32, {channels}}, Fill::kScales});
  }
  // As for other attentions; a query that rounds to the other side moves scores by less than its
  // weights are rounded.
  c.roundings = 1.0;
  c.depth = 55.0 * (512.0 + static_cast<double>(s.keys) + 16.0);
  if (f.k == DType::kBF16) c.depth += 4.0 * std::ldexp(1.0, 23 - 9);
  if (f.out != f.k) {
    c.inputs.push_back({Role::kYScale,
                        {DType::kF32, {1}},
                        f.out == DType::kI8 ? Fill::kWideScales : Fill::kUnitScales});
    // As above; sums of f8 codes are less exact than the rest, and f8 codes near zero fine. Queries
    // that round to bf16's other side (2^-8 of them) move some there: of 700,000 codes, simulated
    // with sums of 13 bits, 31 by three to six, all of them evenly spaced ones.
    const bool coarse = f.x == DType::kF8E4M3;
    c.rare = coarse || f.k == DType::kBF16 ? 0.25 : 0.06;
    if (coarse && f.out == DType::kF8E4M3) {
      c.steps = 2;
      if (f.k == DType::kBF16) c.steps_near_zero = 8;
    }
  }
  return c;
}

inline std::vector<Case> projected_attentions(const std::vector<ProjectedSize>& sizes) {
  std::vector<Case> cases;
  for (const DType k : {DType::kF16, DType::kBF16}) {
    for (const DType x : {k, DType::kI8, DType::kF8E4M3}) {
      for (const DType out : {k, DType::kI8, DType::kF8E4M3}) {
        for (size_t i = 0; i < sizes.size(); ++i) {
          cases.push_back(
              projected_attention({x, k, out, size_of(x) == 1 && i % 2 == 0}, sizes[i]));
        }
      }
    }
  }
  return cases;
}

inline std::vector<Case> projected_attention_cases() {
  std::vector<Case> cases = projected_attentions(
      {{1, 1, 1, 1, 64}, {3, 63, 77, 2, 64}, {1, 65, 80, 1, 80}, {2, 20, 7, 3, 16}});
  cases.push_back(
      projected_attention({DType::kF32, DType::kF32, DType::kF32, false}, {2, 9, 5, 2, 7}));
  cases.push_back(
      projected_attention({DType::kI8, DType::kF32, DType::kF32, true}, {2, 9, 5, 2, 7}));
  cases.push_back(
      projected_attention({DType::kF16, DType::kF16, DType::kF16, false}, {1, 5, 81, 1, 24}));
  cases.push_back(
      projected_attention({DType::kI8, DType::kF16, DType::kI8, true}, {1, 0, 3, 1, 32}));
  return cases;
}

// Of several tiles; the shapes of a denoiser. Too long for a CPU's kernels.
inline std::vector<Case> large_projected_attention_cases() {
  std::vector<Case> cases = projected_attentions(
      {{1, 193, 77, 2, 320}, {3, 256, 77, 4, 1280}, {2, 450, 80, 5, 336}, {1, 449, 1, 2, 640}});
  for (const DType x : {DType::kF16, DType::kI8, DType::kF8E4M3}) {
    const bool codes = size_of(x) == 1;
    const DType out = codes ? x : DType::kF16;
    cases.push_back(projected_attention({x, DType::kF16, out, codes}, {2, 1024, 77, 20, 1280}));
    cases.push_back(
        projected_attention({x, DType::kF16, DType::kF16, false}, {1, 4096, 77, 10, 640}));
  }
  return cases;
}

inline std::vector<Case> center_cases() {
  std::vector<Case> cases;
  for (const DType t : kFloats) {
    for (const Shape& x : {Shape{1, 64, 128}, Shape{2, 77, 65}, Shape{3, 1, 7}, Shape{2, 5, 200},
                           Shape{1, 0, 8}, Shape{0, 3, 8}}) {
      Case c;
      c.name = "center " + std::string(to_string(t)) + " " + text(x);
      c.attrs = graph::Center{};
      c.inputs = {{Role::kX, {t, x}, Fill::kNormal}};
      c.roundings = 1.0;
      c.depth = static_cast<double>(x[1]) + 4.0;
      cases.push_back(std::move(c));
    }
  }
  return cases;
}

}  // namespace halftone::conformance
