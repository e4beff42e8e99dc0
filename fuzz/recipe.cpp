// A quantization recipe: what is read is written and read again as the same recipe, and its
// patterns match in linear time.
#include "quant/recipe.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "halftone/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halftone;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const quant::Recipe recipe = quant::parse_recipe(text, "recipe.json");
    if (quant::parse_recipe(quant::to_json(recipe), "again").hash() != recipe.hash()) std::abort();
    const quant::RuleMatcher matcher(recipe);
    (void)matcher.choose("down_blocks.0.attentions.1.ff.net.2", quant::LayerKind::kLinear);
    (void)quant::readable_name(recipe, nullptr);
  } catch (const Error& error) {
    if (error.code() != Errc::kCorruptFile) std::abort();
  }
  return 0;
}
