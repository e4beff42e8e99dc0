// Files that torch.save wrote, and every way in which such a file may lie.
#include "io/torch_file.h"

#include <algorithm>
#include <fstream>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "base/folder.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using Kind = PickleValue::Kind;

const fs::path kFolder = fs::path(HALFTONE_SOURCE_DIR) / "tests" / "golden" / "torch";

Pickle parse(const std::string& bytes) {
  return parse_pickle(std::as_bytes(std::span(bytes)), "p.pkl");
}

class TorchValues : public ::testing::Test {
 protected:
  const PickleValue& at(std::string_view key) {
    const PickleValue* value = file_.pickle().find(file_.root(), key);
    if (value == nullptr) throw std::out_of_range(std::string(key));
    return *value;
  }
  std::vector<float> read(std::string_view key) {
    const Tensor tensor = file_.read(file_.tensor(at(key), key));
    return {tensor.values<float>().begin(), tensor.values<float>().end()};
  }
  TorchFile file_{kFolder / "values.pt"};
};

TEST_F(TorchValues, PlainOnes) {
  EXPECT_EQ(at("none").kind, Kind::kNone);
  EXPECT_EQ(at("true").kind, Kind::kBool);
  EXPECT_EQ(at("true").integer, 1);
  EXPECT_EQ(at("int").integer, -5);
  EXPECT_EQ(at("large").integer, int64_t{1} << 40);
  EXPECT_EQ(at("float").number, 0.25);
  EXPECT_EQ(at("text").text, "é");
  ASSERT_EQ(at("tuple").items.size(), 2U);
  EXPECT_EQ(file_.pickle().at(at("tuple").items[1]).items.size(), 2U);
  EXPECT_EQ(at("size").kind, Kind::kTuple);
  EXPECT_EQ(file_.pickle().find(file_.root(), "absent"), nullptr);
  EXPECT_TRUE(file_.pickle().warnings.empty());
}

TEST_F(TorchValues, Tensors) {
  EXPECT_EQ(read("transposed"), (std::vector<float>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}));
  EXPECT_EQ(read("view"), (std::vector<float>{5, 6, 9, 10}));
  EXPECT_EQ(read("parameter"), (std::vector<float>{1, 1}));
  for (const char* type :
       {"float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"}) {
    EXPECT_EQ(read("torch."s + type), (std::vector<float>{0, 1, 3})) << type;
  }
  EXPECT_EQ(read("torch.bool"), (std::vector<float>{0, 1, 1}));
  EXPECT_THROW((void)file_.tensor(at("int"), "int"), Error);
}

// --- pickles by hand: PROTO 2, then the case, then STOP

std::string text(const std::string& value) {
  return "X"s + static_cast<char>(value.size()) + "\0\0\0"s + value;
}
std::string storage(const std::string& type, const std::string& key, int size) {
  return "("s + text("storage") + "ctorch\n" + type + "\n" + text(key) + text("cpu") + "K" +
         static_cast<char>(size) + "tQ";
}
std::string tensor(const std::string& of, int offset, const std::string& size,
                   const std::string& stride) {
  return "ctorch._utils\n_rebuild_tensor_v2\n("s + of + "K" + static_cast<char>(offset) + size +
         stride + "\x89" + "}t" + "R";
}

struct BadPickle {
  std::string name, body, message;
};

TEST(Pickle, EveryLieIsNamed) {
  const std::string one = "K\1"s;
  const std::string four = storage("FloatStorage", "0", 4);
  const std::vector<BadPickle> cases = {
      {"unknown opcode", "\xff", "refused opcode 0xff"},
      {"inst", "(ios\nsystem\n", "INST"},
      {"obj", "(o", "OBJ"},
      {"newobj of a class", "ctorch\nSize\n)\x81", "NEWOBJ"},
      {"newobj of a number", one + ")\x81", "NEWOBJ"},
      {"newobj without a tuple", "ctorch.nn.parameter\nParameter\n" + one + "\x81", "no tuple"},
      {"newobj with arguments", "ctorch.nn.parameter\nParameter\n" + one + "\x85\x81", "NEWOBJ"},
      {"reduce of a parameter", "ctorch.nn.parameter\nParameter\n)R", "REDUCE of torch.nn"},
      {"parameter without a tensor", "ctorch.nn.parameter\nParameter\n)\x81" + one + "\x85" + "b",
       "begin with a tensor"},
      {"parameter of nothing", "ctorch.nn.parameter\nParameter\n)\x81)b", "begin with a tensor"},
      {"newobj_ex", ")}\x92", "NEWOBJ_EX"},
      {"ext", "\x82\1", "EXT"},
      {"persid", "Pa\n", "PERSID"},
      {"pop", "N0N", "POP"},
      {"buffer", "\x97", "BUFFER"},
      {"long4", "\x8b\1\0\0\0\1"s, "LONG4"},
      {"long1 of 9 bytes", "\x8a\x09"s + std::string(9, '\1'), "integer of 9 bytes"},
      {"long1 cut", "\x8a\x08\1"s, "cut short"},
      {"text longer than the rest", "X\xff\xff\xff\xff"s, "cut short"},
      {"text no utf-8", "X\2\0\0\0\xc3\x28"s, "UTF-8"},
      {"frame lies", "\x95\xff\xff\xff\xff\0\0\0\0N"s, "FRAME"},
      {"underflow", "a", "underflow"},
      {"setitem underflow", "}s", "underflow"},
      {"below the mark", "](a", "underflow"},
      {"no mark", "t", "no MARK"},
      {"memo missing", "h\7", "memo 7"},
      {"memo far", "j\0\0\0\x80"s, "memo 2147483648"},
      {"put on empty", "q\0"s, "underflow"},
      {"stop empty", "", "STOP"},
      {"stop deep", "NN", "STOP"},
      {"stop below a mark", "N(", "STOP"},
      {"os.system", "cos\nsystem\n", "refused global os.system"},
      {"eval", "cbuiltins\neval\n", "refused global builtins.eval"},
      {"hub", "ctorch.hub\nload\n", "refused global torch.hub.load"},
      {"numpy", "cnumpy.core.multiarray\n_reconstruct\n", "refused global numpy"},
      {"dotted walk", "ctorch\n_utils._rebuild_tensor_v2\n", "refused global"},
      {"spaces", "ctorch \nSize\n", "refused global"},
      {"long name", "c"s + std::string(1 << 20, 'a') + "\nb\n", "..."},
      {"global cut", "ctorch", "cut short"},
      {"stack_global of numbers", one + one + "\x93", "STACK_GLOBAL"},
      {"stack_global of others", "\x8c\2os\x8c\6system\x93", "refused global os.system"},
      {"reduce of a number", one + ")R", "REDUCE"},
      {"reduce without a tuple", "ctorch\nSize\n" + one + "R", "is no tuple"},
      {"reduce of a storage type", "ctorch\nFloatStorage\n)R", "REDUCE of torch.FloatStorage"},
      {"ordered dict with arguments", "ccollections\nOrderedDict\n(" + one + "tR", "OrderedDict"},
      {"ordered dict of numbers", "ccollections\nOrderedDict\n(](" + one + "etR", "pairs"},
      {"ordered dict of threes",
       "ccollections\nOrderedDict\n(](" + one + one + one + "\x87" + "etR", "pairs"},
      {"old tensor arity",
       "ctorch._utils\n_rebuild_tensor\n(" + four + "K\0"s + one + "\x85" + "tR",
       "wants a storage"},
      {"view of a storage",
       "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\4" + "K\1" +
           "tQ",
       "persistent id"},
      {"append to a dict", "}" + one + "a", "no list"},
      {"appends to a tuple", ")(" + one + "e", "no list"},
      {"setitem on a list", "]" + one + one + "s", "no dict"},
      {"setitems on a tensor", tensor(four, 0, one + "\x85", one + "\x85") + "(" + one + one + "u",
       "no dict"},
      {"setitems odd", "}(" + one + "u", "no value"},
      {"build on a dict", "}}b", "BUILD"},
      {"build on a tensor", tensor(four, 0, one + "\x85", one + "\x85") + "}b", "BUILD"},
      {"build with a tuple", "ccollections\nOrderedDict\n)R)b", "BUILD"},
      {"list in itself", "]q\0h\0a"s, "holds itself"},
      {"dict in itself", "}q\0K\1h\0s"s, "holds itself"},
      {"deep", std::string(1200, ']') + std::string(1199, 'a'), "too deep"},
      {"persistent id", "(" + text("storage") + "tQ", "persistent id"},
      {"persistent id of a number", one + "Q", "is no tuple"},
      {"storage key", storage("FloatStorage", "../x", 4), "storage key"},
      {"storage class", storage("UntypedStorage", "0", 4), "refused global"},
      {"no storage class", storage("Size", "0", 4), "persistent id"},
      {"two types", "(" + four + storage("HalfStorage", "0", 4) + "t", "two types"},
      {"two sizes", "(" + four + storage("FloatStorage", "0", 3) + "t", "two types"},
      {"tensor arity", "ctorch._utils\n_rebuild_tensor_v2\n(" + four + "tR", "wants a storage"},
      {"tensor of no storage", tensor(one, 0, one + "\x85", one + "\x85"), "wants a storage"},
      {"negative size", tensor(four, 0, "J\xff\xff\xff\xff\x85", one + "\x85"), "integers from 0"},
      {"size of floats", tensor(four, 0, "G\0\0\0\0\0\0\0\0\x85"s, one + "\x85"),
       "integers from 0"},
      {"rank", tensor(four, 0, one + one + "\x86", one + "\x85"), "disagree"},
      {"offset", tensor(four, 5, one + "\x85", one + "\x85"), "outside"},
      {"past the end", tensor(four, 1, "K\4\x85", one + "\x85"), "leaves its storage"},
      {"at the end", tensor(four, 4, one + "\x85", one + "\x85"), "leaves its storage"},
      {"stride past the end", tensor(four, 0, "K\2\x85", "K\4\x85"), "leaves its storage"},
      {"stride overflow",
       tensor(four, 0, "K\2\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"),
       "leaves its storage"},
      {"expanded", tensor(four, 0, "K\2\x85", "K\0\x85"s), "overlap"},
      {"overlapping", tensor(four, 0, "K\2K\2\x86", "K\1K\1\x86"), "overlap"},
      {"zero times huge",
       tensor(four, 0, "K\0\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x86"s, one + one + "\x86"),
       "out of range"},
  };
  for (const BadPickle& bad : cases) {
    try {
      (void)parse("\x80\2" + bad.body + ".");
      ADD_FAILURE() << "accepted: " << bad.name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile) << bad.name;
      EXPECT_NE(std::string(error.what()).find("p.pkl: pickle, byte "), std::string::npos);
      EXPECT_NE(std::string(error.what()).find(bad.message), std::string::npos)
          << bad.name << ": " << error.what();
    }
  }
}

TEST(Pickle, ProtocolsAndRests) {
  for (const char protocol : {'\0', '\1', '\6'}) {
    EXPECT_THROW((void)parse("\x80"s + protocol + "N."), Error);
  }
  EXPECT_THROW((void)parse(""), Error);
  EXPECT_THROW((void)parse("N."), Error);
  EXPECT_THROW((void)parse("\x80\2N"), Error);
  for (const char protocol : {'\2', '\3', '\4', '\5'}) {
    EXPECT_EQ(parse("\x80"s + protocol + "N.").values.size(), 1U);
  }
  EXPECT_EQ(parse("\x80\2N.rest").warnings.size(), 1U);
  // A shared container is no cycle.
  const Pickle shared = parse("\x80\4(]\x94h\0t."s);
  EXPECT_EQ(shared.at(shared.root).items.size(), 2U);
  EXPECT_EQ(parse("\x80\2\x8a\0."s).at(0).integer, 0);
  EXPECT_EQ(parse("\x80\2\x8a\1\xfe."s).at(0).integer, -2);
  const Pickle empty =
      parse("\x80\2" + tensor(storage("FloatStorage", "0", 0), 0, "K\0\x85"s, "K\1\x85") + ".");
  EXPECT_EQ(empty.tensors.back().num_elements(), 0);
  // A dict's last value of a key counts; BUILD's state (_metadata) is discarded.
  const Pickle twice =
      parse("\x80\2ccollections\nOrderedDict\n)R(" + text("a") + "K\1" + text("a") + "K\2u}b.");
  EXPECT_EQ(twice.find(twice.at(twice.root), "a")->integer, 2);
}

// What Python 2 and torch before 0.4 wrote.
TEST(Pickle, OldStateDicts) {
  const std::string old_tensor = "ctorch._utils\n_rebuild_tensor\n(" +
                                 storage("FloatStorage", "7", 4) + "K\0"s + "K\4\x85" + "K\1\x85" +
                                 "tR";
  const Pickle pickle = parse(
      "\x80\2"
      "ccollections\nOrderedDict\n(](](U\1a"s +
      old_tensor + "e](T\1\0\0\0b"s + "ctorch.nn.parameter\nParameter\n)\x81q\1(" + old_tensor +
      "\x89Ntb" + "eetR}U\1c]sb.");
  const PickleValue& root = pickle.at(pickle.root);
  ASSERT_EQ(root.items.size(), 4U);
  for (const char* name : {"a", "b"}) {
    const PickleValue* value = pickle.find(root, name);
    ASSERT_NE(value, nullptr) << name;
    ASSERT_EQ(value->kind, Kind::kTensor) << name;
    EXPECT_EQ(pickle.tensors[static_cast<size_t>(value->integer)].shape, std::vector<int64_t>{4});
  }
  size_t rest = 0;
  EXPECT_TRUE(
      parse_pickle(std::as_bytes(std::span("\x80\2N.abc", 7)), "p", &rest).warnings.empty());
  EXPECT_EQ(rest, 3U);
}

// --- the archive

class TorchArchive : public ::testing::Test {
 protected:
  TorchArchive() {
    std::ifstream in(kFolder / "act_sensitive.pt", std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
  }

  std::string refusal(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    try {
      const TorchFile file(path_);
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == Errc::kCorruptFile || error.code() == Errc::kUnsupported);
      return error.what();
    }
    return "accepted";
  }
  // All occurrences, or the n-th.
  [[nodiscard]] std::string replaced(const std::string& from, const std::string& to,
                                     int only = -1) const {
    std::string result = bytes_;
    int number = 0;
    for (size_t at = 0; (at = result.find(from, at)) != std::string::npos; at += to.size()) {
      if (only < 0 || number == only) result.replace(at, from.size(), to);
      ++number;
    }
    return result;
  }
  [[nodiscard]] size_t central(const std::string& name) const {
    return bytes_.rfind("act_sensitive/" + name) - 46;
  }
  [[nodiscard]] std::string patched(size_t at, const std::string& with) const {
    std::string result = bytes_;
    result.replace(at, with.size(), with);
    return result;
  }

  std::string bytes_;
  TemporaryFolder temporary_;
  fs::path path_ = temporary_.path() / "archive.pt";
};

TEST_F(TorchArchive, EveryLieIsNamed) {
  ASSERT_EQ(refusal(bytes_), "accepted");
  const size_t pickle = central("data.pkl");
  const size_t version = central("version");
  const size_t end = bytes_.rfind("PK\5\6");
  const std::string folder = "act_sensitive/";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "neither a zip archive nor a pickle"},
      {"././@PaxHeader", "before 0.1.10"},
      {"\x80\2N.", "none of torch.save's"},
      {bytes_.substr(0, 10), "too short"},
      {bytes_.substr(0, bytes_.size() - 1), "no end of a central directory"},
      {bytes_ + "x", "no end of a central directory"},
      {patched(pickle + 10, "\x08\0"s), "compressed"},
      {patched(pickle + 8, "\1\0"s), "encrypted"},
      {patched(pickle + 24, "\xff\0\0\0"s), "two sizes"},
      {patched(pickle + 20, "\xff\xff\xff\x7f\xff\xff\xff\x7f"s), "leaves the file"},
      {patched(pickle + 42, "\xff\xff\xff\x7f"s), "leaves the file"},
      {patched(pickle + 42, "\1\0\0\0"s), "contradicts"},
      {patched(pickle, "PK\1\1"), "another signature"},
      {patched(pickle + 28, "\xff\xff"), "cut short"},
      {patched(end + 10, "\xff\0"s), "directory"},
      {patched(end + 10, "\1\0"s), "more than its members"},
      {patched(end + 12, "\xff\xff\xff\x7f"s), "leaves the file"},
      {patched(end + 16, "\xff\xff\xff\xff"s).replace(end - 20, 4, "PK\1\1"), "zip64 locator"},
      {patched(end + 4, "\1\0"s), "split"},
      {replaced(folder + "version", folder + "../abcd", -1), "refused"},
      {replaced(folder + "version", "/" + folder + "versio", -1), "refused"},
      {replaced(folder + "version", "act_sensitive\\version", -1), "refused"},
      {replaced(folder + "version", folder + "versioN", 0), "another name"},
      {patched(version + 42, bytes_.substr(pickle + 42, 4)), "another name"},
      {replaced(folder + "data.pkl", folder + "data.pkx", -1), "no data.pkl"},
      {replaced("byteorder", "code/orde", -1), "TorchScript"},
      {replaced("little", "biggie", -1), "byte order"},
      {replaced("model.conv_in",
                "\xff\xfe"
                "del.conv_in",
                -1),
       "UTF-8"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_NE(refusal(bytes).find(message), std::string::npos) << message << ": " << refusal(bytes);
  }
}

TEST_F(TorchArchive, StoragesHaveTheDeclaredBytes) {
  std::ifstream in(kFolder / "values.pt", std::ios::binary);
  bytes_.assign(std::istreambuf_iterator<char>(in), {});
  const size_t storage = bytes_.rfind("values/data/0") - 46;
  EXPECT_NE(refusal(patched(storage + 20, "\x2c\0\0\0\x2c\0\0\0"s)).find("has 44 bytes, wanted 48"),
            std::string::npos);
  EXPECT_NE(refusal(replaced("values/data/0", "values/data/z")).find("storage '0' is missing"),
            std::string::npos);
}

// The stream of torch before 1.6, with the values of the archive.
class TorchStream : public TorchArchive {
 protected:
  TorchStream() {
    std::ifstream in(kFolder / "stream.pt", std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
  }
};

TEST_F(TorchStream, HoldsWhatTheArchiveHolds) {
  const TorchFile stream(kFolder / "stream.pt"), archive(kFolder / "values.pt");
  EXPECT_TRUE(stream.pickle().warnings.empty());
  int tensors = 0;
  for (const char* key :
       {"transposed", "view", "parameter", "torch.float64", "torch.float16", "torch.bfloat16",
        "torch.int64", "torch.int32", "torch.int16", "torch.int8", "torch.uint8", "torch.bool"}) {
    const PickleValue* a = stream.pickle().find(stream.root(), key);
    const PickleValue* b = archive.pickle().find(archive.root(), key);
    ASSERT_TRUE(a != nullptr && b != nullptr) << key;
    const Tensor x = stream.read(stream.tensor(*a, key)), y = archive.read(archive.tensor(*b, key));
    EXPECT_EQ(x.shape(), y.shape()) << key;
    EXPECT_TRUE(std::ranges::equal(x.values<float>(), y.values<float>())) << key;
    ++tensors;
  }
  EXPECT_EQ(tensors, 12);
  EXPECT_EQ(stream.pickle().find(stream.root(), "int")->integer, -5);
}

TEST_F(TorchStream, EveryLieIsNamed) {
  ASSERT_EQ(refusal(bytes_), "accepted");
  const size_t version = 15, count = bytes_.size() - 3 - 8;  // the last storage has three bytes
  const std::vector<std::pair<std::string, std::string>> cases = {
      {bytes_.substr(0, 10), "none of torch.save's"},
      {bytes_.substr(0, 16), "not a pickle"},
      {bytes_.substr(0, 200), "cut short"},
      {bytes_.substr(0, bytes_.size() - 1), "leaves the file"},
      {bytes_.substr(0, bytes_.size() - 7), "cut short"},
      {bytes_ + "x", "accepted"},
      {patched(version + 3, "\1"), "another version"},
      {replaced("little_endian", "little_indian"), "byte order"},
      {patched(count, "\2"), "has 2 bytes, wanted 3"},
      {patched(count, "\xff\xff\xff\xff\xff\xff\xff\xff"), "leaves the file"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_NE(refusal(bytes).find(message), std::string::npos) << message << ": " << refusal(bytes);
  }
}

}  // namespace
}  // namespace halftone::io
