// Tokenizer files and prompts. The input's first byte chooses:
//   'f'  files: vocab.json, merges.txt, tokenizer_config.json and a prompt, separated by lines
//   "----" else a prompt for a fixed tokenizer of CLIP's layout
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "halftone/error.h"

#include "base/json.h"
#include "text/clip_tokenizer.h"
#include "text/unicode.h"

namespace {

using halftone::text::ClipTokenizer;
using halftone::text::ClipTokenizerFiles;

constexpr std::string_view kSeparator = "\n----\n";

std::string_view next_part(std::string_view& rest) {
  const size_t end = rest.find(kSeparator);
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + kSeparator.size());
  return part;
}

// 512 byte tokens, two merges, begin and end.
ClipTokenizerFiles fixed_files() {
  halftone::Json vocabulary = halftone::Json::object();
  int64_t id = 0;
  for (const char* suffix : {"", "</w>"}) {
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool is_printable =
          (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      std::string symbol;
      halftone::text::append_utf8(is_printable ? byte : next++, symbol);
      vocabulary.set(symbol + suffix, id++);
    }
  }
  for (const char* token : {"at</w>", "cat</w>", "<|startoftext|>", "<|endoftext|>"}) {
    vocabulary.set(token, id++);
  }
  ClipTokenizerFiles files;
  files.vocab = to_text(vocabulary);
  files.merges = "#version: 0.2\na t</w>\nc at</w>\n";
  return files;
}

void run(std::string_view input) {
  if (!input.starts_with('f') && !input.starts_with('j')) {
    static const ClipTokenizer kTokenizer(fixed_files());
    (void)kTokenizer.encode(input);
    return;
  }
  const bool is_one_file = input.starts_with('j');
  input.remove_prefix(1);
  ClipTokenizerFiles files;
  if (is_one_file) {
    files.tokenizer_json = next_part(input);
  } else {
    files.vocab = next_part(input);
    files.merges = next_part(input);
    files.tokenizer_config = next_part(input);
  }
  const ClipTokenizer tokenizer(files, {.max_positions = 77});
  (void)tokenizer.encode(input);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    run({reinterpret_cast<const char*>(data), size});
  } catch (const halftone::Error& error) {
    if (error.code() == halftone::Errc::kInternal) std::abort();
  }
  return 0;
}
