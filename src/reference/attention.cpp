#include <algorithm>
#include <cmath>

#include "reference/ops.h"
#include "reference/reference.h"
#include "tensor/quantized.h"

namespace halftone::reference {
namespace {

// Turns scores into exp(score - largest); returns their sum.
double exponentials(std::span<double> scores) {
  const double top = *std::ranges::max_element(scores);
  double sum = 0.0;
  for (double& score : scores) {
    score = std::exp(score - top);
    sum += score;
  }
  return sum;
}

// The codes of what `exponentials` made, as numbers up to 448.
void round_to_codes(std::span<double> values) {
  constexpr float kLargest = quantized_largest(DType::kF8E4M3, 8);
  for (double& value : values) {
    const uint8_t code = quantize_f8e4m3(static_cast<float>(value), kLargest);
    value = static_cast<double>(f8e4m3_to_float(code));
  }
}

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// q, k or v: values, or codes times their scale in double.
class Operand {
 public:
  Operand(const TensorView& view, const TensorView* scale, int64_t heads)
      : shape_(view.type.shape), values_(load_codes(view, shape_[2])), heads_(to_size(heads)) {
    if (scale != nullptr) scales_ = load(*scale);
  }
  [[nodiscard]] std::span<const float> part(size_t token, size_t head) const {
    const size_t width = to_size(shape_[2]) / heads_;
    return std::span(values_).subspan((token * heads_ + head) * width, width);
  }
  [[nodiscard]] double scale(size_t token, size_t head) const {
    if (scales_.empty()) return 1.0;
    return static_cast<double>(scales_[scales_.size() == 1 ? 0 : token * heads_ + head]);
  }

 private:
  Shape shape_;
  std::vector<float> values_, scales_;
  size_t heads_;
};

// The queries of an attention that computes them.
Tensor project(const Call& call) {
  std::vector<graph::TypedOperand> typed;
  std::vector<TensorView> views;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    if (!graph::is_of_query_linear(call.desc.inputs[i].role)) continue;
    typed.push_back(call.desc.inputs[i]);
    views.push_back(call.inputs[i]);
  }
  const graph::OpAttrs linear = graph::query_linear(call.desc.inputs);
  const std::vector<graph::TypedOperand> outputs = infer_outputs(linear, typed);
  Tensor q(outputs[0].type);
  const TensorView q_view = q.view();
  run_op({linear, typed, outputs}, views, {&q_view, 1});
  return q;
}

}  // namespace

void run(const graph::Attention& op, const Call& call) {
  const bool projects = graph::projects_queries(call.desc);
  const Tensor projected = projects ? project(call) : Tensor();
  const TensorView q_view = projects ? projected.view() : call.need(graph::Role::kQ);
  const Operand q(q_view, call.find(graph::Role::kQScale), op.heads);
  const Operand k(call.need(graph::Role::kK), call.find(graph::Role::kKScale), op.heads);
  const Operand v(call.need(graph::Role::kV), call.find(graph::Role::kVScale), op.heads);
  const Shape& shape = q_view.type.shape;
  const size_t num_queries = to_size(shape[1]);
  const size_t num_keys = to_size(call.need(graph::Role::kK).type.shape[1]);
  const size_t channels = to_size(shape[2]);
  const size_t head_dim = channels / to_size(op.heads);
  const bool codes = op.probabilities == DType::kF8E4M3;
  const bool to_codes = call.find(graph::Role::kYScale) != nullptr;
  std::vector<double> results;  // all of them, before they become codes
  std::vector<double> scores;
  std::vector<double> row(channels);
  for (size_t token = 0; token < to_size(shape[0]) * num_queries; ++token) {
    const size_t first_key = token / num_queries * num_keys;
    std::ranges::fill(row, 0.0);
    for (size_t head = 0; head < to_size(op.heads); ++head) {
      scores.assign(op.causal ? token % num_queries + 1 : num_keys, 0.0);
      if (scores.empty()) continue;
      for (size_t j = 0; j < scores.size(); ++j) {
        scores[j] = op.scale * q.scale(token, head) * k.scale(first_key + j, head) *
                    dot(q.part(token, head), k.part(first_key + j, head));
      }
      double divisor = exponentials(scores);
      if (codes) {
        round_to_codes(scores);
        divisor *= static_cast<double>(quantized_largest(op.probabilities, 8));
      }
      for (size_t j = 0; j < scores.size(); ++j) {
        const double weight = scores[j] / divisor * v.scale(first_key + j, head);
        const std::span<const float> value = v.part(first_key + j, head);
        for (size_t d = 0; d < head_dim; ++d)
          row[head * head_dim + d] += weight * static_cast<double>(value[d]);
      }
    }
    if (to_codes) {
      results.insert(results.end(), row.begin(), row.end());
    } else {
      store_row(row, call.output(), static_cast<int64_t>(token));
    }
  }
  if (to_codes) store_quantized(results, graph::Granularity::kPerTensor, false, call);
}

void run(const graph::Center& /*op*/, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  const Shape& shape = call.output().type.shape;
  const size_t tokens = to_size(shape[1]);
  const size_t channels = to_size(shape[2]);
  std::vector<double> mean(channels), row(channels);
  for (size_t n = 0; n < to_size(shape[0]); ++n) {
    std::ranges::fill(mean, 0.0);
    const auto at = [&](size_t t, size_t c) {
      return static_cast<double>(x[(n * tokens + t) * channels + c]);
    };
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t c = 0; c < channels; ++c) mean[c] += at(t, c);
    }
    for (double& m : mean) m /= static_cast<double>(tokens);
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t c = 0; c < channels; ++c) row[c] = at(t, c) - mean[c];
      store_row(row, call.output(), static_cast<int64_t>(n * tokens + t));
    }
  }
}

}  // namespace halftone::reference
