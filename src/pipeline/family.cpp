#include "pipeline/family.h"

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

}  // namespace halftone::pipeline
