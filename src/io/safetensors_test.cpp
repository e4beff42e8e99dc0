// Every row of the malformed-safetensors list, built from a valid file, and the round trip.
#include "io/safetensors.h"

#include <cstring>
#include <ctime>
#include <fstream>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "halftone/error.h"

#include "base/folder.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

std::string file_bytes(uint64_t length, const std::string& header, size_t data_bytes) {
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(data_bytes, '\x3c');
}

std::string file_of(const std::string& header, size_t data_bytes = 0) {
  return file_bytes(header.size(), header, data_bytes);
}

SafetensorsHeader scan(const std::string& bytes) {
  return scan_safetensors(std::as_bytes(std::span(bytes)), "m.safetensors");
}

// One tensor of four f16 values, with pieces that a case replaces.
std::string one(const std::string& dtype = "\"F16\"", const std::string& shape = "[2,2]",
                const std::string& offsets = "[0,8]", size_t data_bytes = 8) {
  return file_of(
      R"({"t":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}",
      data_bytes);
}

std::string tensors(const std::vector<std::pair<int, int>>& ranges, size_t data_bytes) {
  std::string header = "{";
  for (size_t i = 0; i < ranges.size(); ++i) {
    const auto [begin, end] = ranges[i];
    header += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[)" +
              std::to_string(end - begin) + R"(],"data_offsets":[)" + std::to_string(begin) + "," +
              std::to_string(end) + "]}";
  }
  return file_of(header + "}", data_bytes);
}

std::string named(const std::string& name) {
  return file_of("{\"" + name + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})");
}

struct BadFile {
  std::string name;
  std::string bytes;
  std::string substring;
};

std::vector<BadFile> bad_files() {
  const std::string entry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  const std::string ok = R"({"t":)" + entry + "}";
  std::string million(1000000, '[');
  return {
      {"empty file", "", "0 bytes, a safetensors file has at least"},
      {"1 byte", "x", "1 bytes"},
      {"7 bytes", "1234567", "7 bytes"},
      {"N = 0", file_bytes(0, "{}", 0), "too short"},
      {"N = 1", file_bytes(1, "{}", 0), "too short"},
      {"N > remaining", file_bytes(3, "{}", 0), "only 2 bytes follow"},
      {"N = 2^63", file_bytes(uint64_t{1} << 63, "{}", 0), "the limit is 100000000"},
      {"N = 2^64-1", file_bytes(~uint64_t{0}, "{}", 0), "the limit is 100000000"},
      {"N = 100000001", file_bytes(100000001, "{}", 0), "the limit is 100000000"},
      {"not UTF-8", named("\xff\xfe"), "invalid JSON"},
      {"BOM first", file_of("\xef\xbb\xbf{}"), "begins with"},
      {"leading space", file_of(" {}"), "begins with ' '"},
      {"leading [", file_of("[{}]"), "begins with '['"},
      {"truncated", file_of(R"({"t":{"dtype":"U8")"), "invalid JSON"},
      {"non-space after }", file_of(ok + "x"), "invalid JSON"},
      {"NUL after }", file_of(ok + std::string(1, '\0')), "NUL byte"},
      {"nesting 10^6", file_of(R"({"t":{"x":)" + million), "deeper than 64"},
      {"duplicate tensor name", file_of(R"({"t":)" + entry + R"(,"t":)" + entry + "}"),
       "duplicate key 't'"},
      {"duplicate __metadata__", file_of(R"({"__metadata__":{},"__metadata__":{}})"),
       "duplicate key '__metadata__'"},
      {"duplicate through escape", file_of(R"({"t":)" + entry + R"(,"\u0074":)" + entry + "}"),
       "duplicate key 't'"},
      {"metadata value number", file_of(R"({"__metadata__":{"a":1}})"),
       "got integer, wanted string"},
      {"metadata value object", file_of(R"({"__metadata__":{"a":{}}})"),
       "got object, wanted string"},
      {"metadata value array", file_of(R"({"__metadata__":{"a":[]}})"), "got array, wanted string"},
      {"metadata value null", file_of(R"({"__metadata__":{"a":null}})"), "got null, wanted string"},
      {"metadata null", file_of(R"({"__metadata__":null})"), "got null, wanted object"},
      {"entry number", file_of(R"({"t":3})"), "got integer, wanted object"},
      {"entry array", file_of(R"({"t":[]})"), "got array, wanted object"},
      {"unknown dtype", one("\"F17\""), "unknown dtype 'F17'"},
      {"lower-case dtype", one("\"f16\""), "unknown dtype 'f16'"},
      {"dtype number", one("16"), "'dtype': got integer, wanted string"},
      {"dtype missing", file_of(R"({"t":{"shape":[0],"data_offsets":[0,0]}})"),
       "'dtype' is missing"},
      {"shape missing", file_of(R"({"t":{"dtype":"U8","data_offsets":[0,0]}})"),
       "'shape' is missing"},
      {"data_offsets missing", file_of(R"({"t":{"dtype":"U8","shape":[0]}})"), "wanted 2"},
      {"offsets of 1 value", one("\"F16\"", "[2,2]", "[0]"), "holds 1 values, wanted 2"},
      {"offsets of 3 values", one("\"F16\"", "[2,2]", "[0,4,8]"), "more than 2 values"},
      {"offset negative", one("\"F16\"", "[2,2]", "[-8,0]"), "a negative integer"},
      {"offset minus zero", one("\"F16\"", "[2,2]", "[-0,8]"), "holds number"},
      {"offset float", one("\"F16\"", "[2,2]", "[0,8.0]"), "holds number"},
      {"offset 1e3", one("\"F16\"", "[2,2]", "[0,1e3]"), "holds number"},
      {"offset string", one("\"F16\"", "[2,2]", R"([0,"8"])"), "holds string"},
      {"offsets string", one("\"F16\"", "[2,2]", "\"0,8\""), "got string, wanted array"},
      {"begin > end", one("\"F16\"", "[2,2]", "[8,0]"), "begins at 8 after its end 0"},
      {"shape negative", one("\"F16\"", "[-2,-2]"), "a negative integer"},
      {"shape float", one("\"F16\"", "[2.0,2]"), "holds number"},
      {"shape 2^53+1", one("\"F16\"", "[9007199254740993]"), "the limit is 2^53"},
      {"shape number", one("\"F16\"", "4"), "got integer, wanted array"},
      {"rank 65",
       one(
           "\"F16\"", "[1" +
                          [] {
                            std::string s;
                            for (int i = 0; i < 64; ++i) s += ",1";
                            return s;
                          }() +
                          "]"),
       "more than 64 dimensions"},
      {"zero-dim with data", one("\"F16\"", "[0,2]"), "wanted 0 for F16"},
      {"shape product overflow", one("\"F16\"", "[4294967296,4294967296]"), "overflows"},
      {"product x size overflow", one("\"F64\"", "[2147483648,1073741824]"), "overflows"},
      {"F4 with half a byte", one("\"F4\"", "[3]", "[0,1]", 1), "wanted whole bytes"},
      {"F6 with a part of a byte", one("\"F6_E2M3\"", "[3]", "[0,2]", 2), "wanted whole bytes"},
      {"wrong byte count", one("\"F32\""), "8 bytes of data, wanted 16"},
      {"first begin not 0", tensors({{4, 8}}, 8), "a hole"},
      {"hole", tensors({{0, 4}, {6, 8}}, 8), "a hole"},
      {"overlap", tensors({{0, 5}, {4, 8}}, 8), "an overlap"},
      {"two tensors on one range", tensors({{0, 8}, {0, 8}}, 8), "an overlap"},
      {"end > file", tensors({{0, 8}}, 7), "past the 7 bytes"},
      {"file longer than last end", tensors({{0, 8}}, 9), "bytes after the last tensor"},
      {"no tensors but data", file_of("{}", 4), "bytes after the last tensor"},
      {"empty name", named(""), "empty name"},
      {"name of 1 MB", named(std::string(1000000, 'n')), "name of 1000000 bytes"},
      {"name with NUL", named("a\\u0000b"), "NUL"},
      {"name with ../", named("../../etc/passwd"), "'..'"},
      {"name with control characters", named("a\\u001b[31m"), "a\\x1b[31m"},
  };
}

TEST(SafetensorsBadFileTest, EveryRowIsAnErrorThatSaysWhy) {
  EXPECT_NO_THROW((void)scan(one()));
  for (const BadFile& bad : bad_files()) {
    try {
      (void)scan(bad.bytes);
      ADD_FAILURE() << bad.name << ": accepted";
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(to_string(e.code()), "corrupt_file") << bad.name;
      EXPECT_TRUE(message.starts_with("m.safetensors: ")) << bad.name << ": " << message;
      EXPECT_NE(message.find(bad.substring), std::string::npos) << bad.name << ": " << message;
      EXPECT_LT(message.size(), 600U) << bad.name;
    }
  }
}

TEST(SafetensorsTest, AcceptsWhatIsLegal) {
  EXPECT_EQ(scan(file_of("{}  ")).tensors.size(), 0U);
  EXPECT_EQ(scan(one("\"F32\"", "[]", "[0,4]", 4)).tensors[0].shape, Shape());
  EXPECT_EQ(scan(one("\"F32\"", "[0,7]", "[0,0]", 0)).tensors[0].shape, Shape({0, 7}));
  EXPECT_EQ(scan(one("\"F4\"", "[4]", "[0,2]", 2)).tensors[0].dtype, std::nullopt);
  // Unsorted keys; the second tensor starts unaligned.
  const auto header = scan(file_of(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                                   R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                   R"("__metadata__":{"format":"pt"}})",
                                   5));
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[1].name, "b");
  EXPECT_EQ(header.metadata.at(0).second, "pt");
}

TEST(SafetensorsTest, UnknownFieldIsAWarning) {
  const auto header = scan(file_of(
      R"({"t":{"dtype":"U8","extra":{"a":[1,{"shape":[9]}]},"shape":[0],"note":1,"data_offsets":[0,0]}})"));
  ASSERT_EQ(header.warnings.size(), 2U);
  EXPECT_NE(header.warnings[0].find("unknown field 'extra'"), std::string::npos);
}

TEST(SafetensorsTest, UnsupportedTypeIsAnErrorOnlyWhenUsed) {
  const auto header = scan(one("\"C64\"", "[1]", "[0,8]"));
  try {
    (void)header.tensors[0].type("m.safetensors");
    ADD_FAILURE() << "C64 accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Errc::kUnsupported);
    EXPECT_NE(std::string(e.what()).find("'t' is C64"), std::string::npos);
  }
}

TEST(SafetensorsTest, TooManyTensorsEndQuickly) {
  std::string header = "{";
  for (size_t i = 0; i <= kMaxSafetensorsTensors; ++i) {
    header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                          i > 0 ? "," : "", i);
  }
  header += "}";
  const std::string bytes = file_of(header);
  const std::clock_t start = std::clock();
  EXPECT_THROW((void)scan(bytes), Error);
  // 0.2 s of processor time when optimised; the bound leaves room for sanitizers.
  EXPECT_LT(std::clock() - start, 60 * CLOCKS_PER_SEC);
}

class SafetensorsFileTest : public ::testing::Test {
 protected:
  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
};

// A few files of many random tensors, not many files: each commit waits for the disk.
TEST_F(SafetensorsFileTest, WriteThenRead) {
  std::mt19937 random(7);
  const auto draw = [&](int64_t n) { return static_cast<int64_t>(random()) % n; };
  for (int round = 0; round < 3; ++round) {
    std::vector<NamedType> types;
    std::vector<std::string> data;
    for (int64_t i = 0; i < 40; ++i) {
      std::vector<int64_t> dims(static_cast<size_t>(draw(6)));
      for (int64_t& d : dims) d = draw(5);
      types.push_back({fmt::format("tensor.\"{}\"", i), {DType(draw(9)), Shape(dims)}});
      std::string bytes(types.back().type.num_bytes(), '\0');
      for (char& c : bytes) c = static_cast<char>(draw(256));
      data.push_back(bytes);
    }
    SafetensorsWriter writer(folder_ / "x.safetensors", types, {{"k", "v\n"}});
    for (size_t i = types.size(); i-- > 0;) writer.write(i, 0, std::as_bytes(std::span(data[i])));
    writer.commit();
    const SafetensorsFile file(folder_ / "x.safetensors");
    ASSERT_EQ(file.header().tensors.size(), types.size());
    EXPECT_EQ(file.header().metadata.at(0).second, "v\n");
    for (size_t i = 0; i < types.size(); ++i) {
      const SafetensorsEntry* entry = file.find(types[i].name);
      ASSERT_NE(entry, nullptr);
      EXPECT_EQ(entry->type(""), types[i].type);
      std::string out(data[i].size(), '\0');
      file.read(*entry, 0, static_cast<uint64_t>(entry->shape.num_elements()), *entry->dtype,
                std::as_writable_bytes(std::span(out)).data());
      EXPECT_EQ(out, data[i]);
    }
  }
}

TEST_F(SafetensorsFileTest, BitFlipsGiveAnErrorOrALegalHeader) {
  const std::string good = tensors({{0, 4}, {4, 8}}, 8);
  rc::check("bit flips", [&] {
    std::string bytes = good;
    const auto flips = *rc::gen::inRange(1, 4);
    for (int i = 0; i < flips; ++i) {
      const auto position = *rc::gen::inRange<size_t>(0, bytes.size());
      bytes[position] = static_cast<char>(bytes[position] ^ (1 << *rc::gen::inRange(0, 8)));
    }
    try {
      uint64_t end = bytes.size() - 8;
      for (const SafetensorsEntry& entry : scan(bytes).tensors) {
        RC_ASSERT(entry.begin <= entry.end && entry.end <= bytes.size());
        end = entry.end;
      }
      RC_ASSERT(end == bytes.size());
    } catch (const Error& e) {
      RC_ASSERT(e.code() == Errc::kCorruptFile);
    }
  });
}

TEST_F(SafetensorsFileTest, ReadsConvertedRangesAndCountsNonFinite) {
  const fs::path path = folder_ / "x.safetensors";
  std::vector<float> values(300000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 2048);
  values[123456] = std::numeric_limits<float>::infinity();
  SafetensorsWriter writer(path, {{"w", {DType::kF32, Shape({300, 1000})}}});
  writer.write(0, 0, std::as_bytes(std::span(values)));
  writer.commit();
  const SafetensorsFile file(path);
  std::vector<uint16_t> out(200000);
  EXPECT_EQ(file.read(*file.find("w"), 100000, 200000, DType::kF16,
                      std::as_writable_bytes(std::span(out)).data()),
            1U);
  std::vector<uint16_t> wanted(200000);
  convert(values.data() + 100000, DType::kF32, wanted.data(), DType::kF16, wanted.size());
  EXPECT_EQ(out, wanted);
}

TEST_F(SafetensorsFileTest, TruncationAfterOpeningIsAnError) {
  const fs::path path = folder_ / "x.safetensors";
  const std::string bytes = tensors({{0, 1000}}, 1000);
  std::ofstream(path, std::ios::binary) << bytes;
  const SafetensorsFile file(path);
  fs::resize_file(path, bytes.size() - 500);
  std::vector<std::byte> out(1000);
  EXPECT_THROW(file.read(*file.find("0"), 0, 1000, DType::kU8, out.data()), Error);
  EXPECT_THROW(file.file().check_unchanged(), Error);
}

TEST_F(SafetensorsFileTest, SparseTerabyteIsRefusedByItsHeader) {
  const fs::path path = folder_ / "x.safetensors";
  std::ofstream(path, std::ios::binary) << tensors({{0, 8}}, 8);
  std::error_code error;
  fs::resize_file(path, uint64_t{1} << 40, error);
  if (error) GTEST_SKIP() << "no sparse files here: " << error.message();
  try {
    const SafetensorsFile file(path);
    ADD_FAILURE() << "accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("bytes after the last tensor"), std::string::npos);
  }
}

TEST_F(SafetensorsFileTest, AnUnfinishedWriterLeavesNothing) {
  {
    SafetensorsWriter writer(folder_ / "x.safetensors", {{"w", {DType::kU8, Shape({4})}}});
    EXPECT_THROW(writer.commit(), Error);
    const std::array<std::byte, 5> bytes{};
    EXPECT_THROW(writer.write(0, 0, bytes), Error);
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace halftone::io
