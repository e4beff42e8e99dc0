// The one place that knows which backends are linked in.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace halftone::api {

// "auto" or "cpu". Throws kInvalidArgument for a name that means nothing, kDeviceLost for a device
// that this build or machine does not have.
[[nodiscard]] std::unique_ptr<backend::Device> create_device(const std::string& name, int threads);

}  // namespace halftone::api
