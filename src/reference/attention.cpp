#include <algorithm>
#include <cmath>

#include "reference/ops.h"

namespace halftone::reference {
namespace {

void softmax(std::span<double> scores) {
  const double top = *std::ranges::max_element(scores);
  double sum = 0.0;
  for (double& score : scores) {
    score = std::exp(score - top);
    sum += score;
  }
  for (double& score : scores) score /= sum;
}

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

}  // namespace

void run(const graph::Attention& op, const Call& call) {
  const std::vector<float> q = load(call.need(graph::Role::kQ));
  const std::vector<float> k = load(call.need(graph::Role::kK));
  const std::vector<float> v = load(call.need(graph::Role::kV));
  const Shape& shape = call.need(graph::Role::kQ).type.shape;
  const size_t num_queries = to_size(shape[1]);
  const size_t num_keys = to_size(call.need(graph::Role::kK).type.shape[1]);
  const size_t channels = to_size(shape[2]);
  const size_t head_dim = channels / to_size(op.heads);
  std::vector<double> scores;
  std::vector<double> row(channels);
  for (size_t n = 0; n < to_size(shape[0]); ++n) {
    for (size_t i = 0; i < num_queries; ++i) {
      std::ranges::fill(row, 0.0);
      for (size_t c = 0; c < channels; c += head_dim) {
        const auto query = std::span(q).subspan((n * num_queries + i) * channels + c, head_dim);
        scores.assign(op.causal ? i + 1 : num_keys, 0.0);
        if (scores.empty()) continue;
        for (size_t j = 0; j < scores.size(); ++j) {
          const auto key = std::span(k).subspan((n * num_keys + j) * channels + c, head_dim);
          scores[j] = op.scale * dot(query, key);
        }
        softmax(scores);
        for (size_t j = 0; j < scores.size(); ++j) {
          const float* value = v.data() + (n * num_keys + j) * channels + c;
          for (size_t d = 0; d < head_dim; ++d)
            row[c + d] += scores[j] * static_cast<double>(value[d]);
        }
      }
      store_row(row, call.output(), static_cast<int64_t>(n * num_queries + i));
    }
  }
}

}  // namespace halftone::reference
