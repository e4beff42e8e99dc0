#include "halftone/near_miss.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace halftone {
namespace {

constexpr size_t kMostLetters = 64;
constexpr size_t kMostEdits = 3;

// Neighbours that changed places are one edit.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before, last, row(b.size() + 1);  // three rows of the table
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t exchanged = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, exchanged});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view near_miss(std::string_view text, std::span<const std::string_view> words) {
  text = text.substr(0, kMostLetters);
  std::string_view best;
  size_t least = kMostEdits + 1;
  for (const std::string_view word : words) {
    const size_t distance = edit_distance(text, word);
    if (distance >= least || 3 * distance > std::max(text.size(), word.size())) continue;
    least = distance;
    best = word;
  }
  return best;
}

std::string did_you_mean(std::string_view text, std::span<const std::string_view> words) {
  const std::string_view word = near_miss(text, words);
  return word.empty() ? std::string() : fmt::format("; did you mean '{}'?", word);
}

}  // namespace halftone
