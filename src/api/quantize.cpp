#include "workflow/quantize.h"

#include "api/backends.h"

namespace halftone {

QuantizeReport quantize(const QuantizeOptions& options) {
  const auto device = api::create_device(
      options.session.device,
      {.threads = options.session.threads, .cache_dir = options.session.cache_dir});
  return workflow::quantize(*device, options);
}

}  // namespace halftone
