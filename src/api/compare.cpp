#include "halftone/compare.h"

#include "api/backends.h"
#include "workflow/compare/compare.h"

namespace halftone {

CompareReport compare(const CompareOptions& options) {
  const api::DeviceOptions settings{.threads = options.session.threads,
                                    .cache_dir = options.session.cache_dir};
  const auto device = api::create_device(options.session.device, settings);
  const bool has_scores = !options.clip_model.empty() || !options.lpips.empty();
  if (!has_scores || !device->info().has("cuda")) {
    return workflow::compare(*device, *device, options);
  }
  const auto host = api::create_device("cpu", settings);
  return workflow::compare(*device, *host, options);
}

}  // namespace halftone
