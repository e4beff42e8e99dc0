// What every JSON line of the runners says of the program that measured.
#pragma once

#include <string>

#include <fmt/format.h>

#include "halftone/device.h"

namespace halftone::bench {

// Members of a JSON object: "version":"0.1.0","commit":"...","libraries":["oneDNN 2.6.3"].
inline std::string build_members() {
  const Version v = version();
  std::string libraries;
  for (const std::string& library : v.libraries) {
    libraries += fmt::format("{}\"{}\"", libraries.empty() ? "" : ",", library);
  }
  return fmt::format(R"("version":"{}","commit":"{}","libraries":[{}])", v.version, v.commit,
                     libraries);
}

}  // namespace halftone::bench
