// oneDNN's process-wide settings.
#pragma once

#include "backend/backend.h"

namespace halftone::backend::cpu::onednn {

// Keeps oneDNN to the instruction sets of `info`. Without effect once oneDNN has made its first
// primitive in this process.
void limit_instruction_set(const DeviceInfo& info);

// "oneDNN 2.6.3", of the library that is loaded.
[[nodiscard]] std::string version();

}  // namespace halftone::backend::cpu::onednn
