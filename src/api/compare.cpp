#include "halftone/compare.h"

#include "api/backends.h"
#include "workflow/compare/compare.h"

namespace halftone {

CompareReport compare(const CompareOptions& options) {
  const auto device = api::create_device(
      options.session.device,
      {.threads = options.session.threads, .cache_dir = options.session.cache_dir});
  return workflow::compare(*device, options);
}

}  // namespace halftone
