#include "io/two_byte_vocabulary.h"

#include <vector>

#include "base/json.h"

namespace halftone::io {
namespace {

constexpr size_t kNumMerges = 48'894;

std::string utf8(uint32_t code_point) {  // below U+0800
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xc0U | (code_point >> 6)),
          static_cast<char>(0x80U | (code_point & 0x3fU))};
}

// The printable characters that stand for bytes in byte-level BPE, in CLIP's order: those that are
// printable in Latin-1 stand for themselves, the others follow as U+0100 and on.
std::vector<std::string> byte_characters() {
  std::vector<std::string> printable;
  std::vector<std::string> others;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    if (is_printable) {
      printable.push_back(utf8(byte));
    } else {
      others.push_back(utf8(0x100 + static_cast<uint32_t>(others.size())));
    }
  }
  printable.insert(printable.end(), others.begin(), others.end());
  return printable;
}

}  // namespace

TwoByteVocabulary two_byte_vocabulary() {
  const std::vector<std::string> bytes = byte_characters();
  Json::Object vocab;
  const auto add = [&](const std::string& token) { vocab.emplace_back(token, Json(vocab.size())); };
  for (const std::string& byte : bytes) add(byte);
  for (const std::string& byte : bytes) add(byte + "</w>");
  TwoByteVocabulary out;
  out.merges_txt = "#version: 0.2\n";
  size_t num_merges = 0;
  for (size_t i = 0; i < bytes.size() && num_merges < kNumMerges; ++i) {
    for (size_t j = 0; j < bytes.size() && num_merges < kNumMerges; ++j, ++num_merges) {
      add(bytes[i] + bytes[j] + "</w>");
      out.merges_txt += bytes[i] + " " + bytes[j] + "</w>\n";
    }
  }
  add("<|startoftext|>");
  add("<|endoftext|>");
  out.vocab_json = to_text(Json(std::move(vocab)));
  return out;
}

}  // namespace halftone::io
