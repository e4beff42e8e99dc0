#include "workflow/calibrate.h"

#include "api/backends.h"

namespace halftone {

CalibrateReport calibrate(const CalibrateOptions& options) {
  const auto device = api::create_device(
      options.session.device,
      {.threads = options.session.threads, .cache_dir = options.session.cache_dir});
  return workflow::calibrate(*device, options);
}

}  // namespace halftone
