// The text that travels inside a picture: how to make it again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "halftone/report.h"

namespace halftone::workflow {

inline constexpr const char* kVersion = HALFTONE_VERSION;

// WebUI's "parameters": prompt, optional negative prompt, one line of settings. Values with a
// comma, colon or newline are JSON strings, so that its reader's grammar holds.
[[nodiscard]] std::string parameters_text(const ResolvedRequest& request, uint64_t seed,
                                          const std::string& model_hash);
// Schema halftone.image/v1: request, plans, version.
[[nodiscard]] std::string image_json(const ResolvedRequest& request, uint64_t seed,
                                     const std::vector<PlanUse>& plans);
// Says that an algorithm made the picture (IPTC digital source type), as XMP.
[[nodiscard]] std::string disclosure_xmp();

}  // namespace halftone::workflow
