#include "workflow/quantize.h"

#include "api/backends.h"
#include "workflow/inspect_layers.h"

namespace halftone {

QuantizeReport quantize(const QuantizeOptions& options) {
  const auto device = api::create_device(
      options.session.device,
      {.threads = options.session.threads, .cache_dir = options.session.cache_dir});
  return workflow::quantize(*device, options);
}

QuantizeReport inspect_layers(const LayersOptions& options) {
  const auto device = api::create_device(
      options.session.device,
      {.threads = options.session.threads, .cache_dir = options.session.cache_dir});
  return workflow::inspect_layers(*device, options);
}

}  // namespace halftone
