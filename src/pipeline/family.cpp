#include "pipeline/family.h"

#include <algorithm>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::pipeline {

#define HALFTONE_FAMILY(name) extern const Family name;
#include "pipeline/families/families.inc"
#undef HALFTONE_FAMILY

std::span<const Family* const> families() {
  static constexpr std::array kFamilies = {
#define HALFTONE_FAMILY(name) &name,
#include "pipeline/families/families.inc"
#undef HALFTONE_FAMILY
  };
  return kFamilies;
}

const Family& find_family(std::string_view name) {
  std::string known;
  for (const Family* family : families()) {
    if (family->name == name) return *family;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family->name);
  }
  throw Error(Errc::kUnsupported,
              fmt::format("model family '{}' is not supported, only {}", name, known));
}

Tensor stack(std::span<const Tensor* const> rows, int64_t batch) {
  std::vector<int64_t> dims = rows.front()->shape().dims();
  dims.front() = static_cast<int64_t>(rows.size()) * batch;
  Tensor result({DType::kF32, Shape(std::move(dims))});
  auto out = result.values<float>().begin();
  for (const Tensor* row : rows) {
    const auto values = row->values<float>();
    for (int64_t i = 0; i < batch; ++i) out = std::copy(values.begin(), values.end(), out);
  }
  return result;
}

}  // namespace halftone::pipeline
