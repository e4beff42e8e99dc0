// Which GPUs a build has code for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace halftone::backend::cuda {

// `built` is CMake's list of architectures: "80;90a". An entry is code for its own compute
// capability and newer minor versions, and (unless "-real") in a form that the driver translates
// for every newer one; "90a" and "120f" are for exactly their own, "-virtual" is only the form to
// translate.
[[nodiscard]] bool has_code_for(std::string_view built, int major, int minor);

// "sm_80, sm_90a" of "80;90a-real": what a user knows them as.
[[nodiscard]] std::string readable_architectures(std::string_view built);

// What this build was made with: "CUDA 12.8", "GPU code: sm_80, sm_90a".
[[nodiscard]] std::vector<std::string> build_versions();

// The list that this build was made with.
[[nodiscard]] std::string_view built_architectures();

}  // namespace halftone::backend::cuda
