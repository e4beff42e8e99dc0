// A component's config.json: the reader, the writer and the models' checks. The first byte chooses
// the component.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "halftone/error.h"

#include "base/json.h"
#include "models/registry.h"

namespace {

struct Target {
  std::string_view component, class_name;
};
constexpr std::array kTargets{Target{"unet", "UNet2DConditionModel"},
                              Target{"vae_decoder", "AutoencoderKL"},
                              Target{"text_encoder", "CLIPTextModel"},
                              Target{"text_encoder_2", "CLIPTextModelWithProjection"}};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halftone;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const Json json = parse_json(text, "config.json");
    // What is written reads back as the same value.
    if (parse_json(to_text(json, 2), "again") != json) std::abort();
    const Target& target = kTargets[data[0] % kTargets.size()];
    (void)models::metadata(target.component, target.class_name, JsonView(json, "config.json"));
  } catch (const Error& error) {
    if (error.code() != Errc::kCorruptFile && error.code() != Errc::kUnsupported) std::abort();
  }
  return 0;
}
