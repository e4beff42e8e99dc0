#include "workflow/calibrate.h"

#include "api/backends.h"

namespace halftone {

void calibrate_if_missing(const SessionOptions& session) {
  if (!workflow::may_need_record(session)) return;
  const auto device = api::create_device(
      session.device, {.threads = session.threads, .cache_dir = session.cache_dir});
  workflow::calibrate_if_missing(*device, session);
}

CalibrateReport calibrate(const CalibrateOptions& options) {
  const auto device = api::create_device(
      options.session.device,
      {.threads = options.session.threads, .cache_dir = options.session.cache_dir});
  return workflow::calibrate(*device, options);
}

}  // namespace halftone
