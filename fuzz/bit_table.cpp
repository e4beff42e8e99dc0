// MixDQ's bit tables and OneDiff's lists of layers; the first byte chooses.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "halftone/error.h"

#include "quant/imports/mixdq.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace halftone;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] % 2 == 0) {
      const quant::BitTable table = quant::parse_bit_table(text, "weight.yaml");
      if (quant::parse_bit_table(quant::print_bit_table(table), "again") != table) std::abort();
      (void)quant::mixdq_recipe(table, table, false);
    } else {
      const auto layers = quant::parse_onediff_layers(text, "layers.json", 75);
      for (const std::string& layer : layers) (void)quant::exact_pattern(layer);
    }
  } catch (const Error& error) {
    if (error.code() != Errc::kCorruptFile) std::abort();
  }
  return 0;
}
