// The seeds that a test of random cases walks. By default a few, always the same;
//   HALFTONE_RANDOM_SEED=N    the first of them, instead of 1
//   HALFTONE_RANDOM_COUNT=N   how many
//   HALFTONE_RANDOM_PRINT=1   prints each case before its kernel runs, for one that ends the
//   process
// walk others: a failure names the seed, and the test of its name with that seed and a count of 1
// repeats it.
#pragma once

#include <cstdlib>
#include <iostream>
#include <optional>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "question.h"
#include "random_cases.h"

namespace halftone::conformance {

inline uint64_t environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Cases of a test. Each `stream` has seeds of its own, so that all of them together see more.
struct Walk {
  Family family;
  uint64_t stream;
  uint64_t count;
  uint64_t first = 1;

  void take_environment() {
    first = environment("HALFTONE_RANDOM_SEED", first);
    count = environment("HALFTONE_RANDOM_COUNT", count);
  }
  // Calls use(case, seed) for each that type inference accepts, until a test fails; returns how
  // many it refuses.
  template <class F>
  uint64_t each(F use) const {
    uint64_t refused = 0;
    for (uint64_t seed = first; seed < first + count && !testing::Test::HasFailure(); ++seed) {
      const Case c = random_case(family, stream, seed);
      try {
        (void)types_of(c);
      } catch (const Error&) {
        ++refused;
        continue;
      }
      use(c, seed);
    }
    return refused;
  }
};

inline void print_if_wanted(const std::string& call, const Case& c) {
  static const bool prints = environment("HALFTONE_RANDOM_PRINT", 0) != 0;
  if (prints) std::cout << call << " " << c.name << std::endl;
}

// The question, or a failure and none where the reference throws.
inline std::optional<Question> answered(const Case& c) {
  try {
    return make_question(c);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "the reference: " << error.what();
    return std::nullopt;
  }
}

}  // namespace halftone::conformance
