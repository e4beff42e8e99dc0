// What torch.save writes, read without running any of it: a stored zip, or (torch before 1.6) a
// stream, with a pickle that may build tensors, dicts, lists, tuples and plain values, and nothing
// else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "io/zip_directory.h"
#include "tensor/tensor.h"

namespace halftone::io {

inline constexpr uint64_t kMaxPickleBytes = uint64_t{256} << 20;
inline constexpr size_t kMaxPickleValues = 4'000'000;
inline constexpr size_t kMaxPickleMemo = 1'000'000;
inline constexpr int kMaxPickleDepth = 1000;

// Elements of a torch storage.
enum class TorchType : uint8_t {
  kFloat,
  kDouble,
  kHalf,
  kBFloat16,
  kLong,
  kInt,
  kShort,
  kChar,
  kByte,
  kBool
};
[[nodiscard]] size_t size_of(TorchType type);

// A view of a storage.
struct TorchTensor {
  TorchType type = TorchType::kFloat;
  std::string storage;       // its key in the archive
  int64_t storage_size = 0;  // elements
  int64_t offset = 0;        // elements
  std::vector<int64_t> shape, strides;
  [[nodiscard]] int64_t num_elements() const;
};

// One value of a pickle; containers name their items by index.
struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInteger,
    kNumber,
    kString,
    kTuple,
    kList,
    kDict,
    kGlobal,
    kStorage,
    kTensor,
    kParameter  // of torch before 0.4, whose tensor never came
  };
  Kind kind = Kind::kNone;
  bool ordered = false;  // a dict made as OrderedDict
  int64_t integer = 0;   // integers, booleans; tensors and storages: index of Pickle::tensors
  double number = 0;
  std::string text;
  std::vector<uint32_t> items;  // of a dict: key, value, key, value, ...
};

struct Pickle {
  std::vector<PickleValue> values;
  std::vector<TorchTensor> tensors;
  uint32_t root = 0;
  std::vector<std::string> warnings;

  [[nodiscard]] const PickleValue& at(uint32_t index) const { return values[index]; }
  // The last value of a key, or null.
  [[nodiscard]] const PickleValue* find(const PickleValue& dict, std::string_view key) const;
};

// Interprets protocols 2 to 5, and of them what a state dict needs. Globals that may be named:
// collections.OrderedDict, torch._utils._rebuild_tensor, _rebuild_tensor_v2 and _rebuild_parameter,
// torch.nn.parameter.Parameter, torch.Size and torch's ten plain storages; they are words of this
// reader, nothing is looked up or called. Containers neither hold themselves nor nest deeper than
// kMaxPickleDepth. Throws kCorruptFile naming `where`, the byte and the opcode or the global;
// kUnsupported for other protocols. Bytes behind the pickle are counted in `rest`, or warned of.
[[nodiscard]] Pickle parse_pickle(std::span<const std::byte> bytes, std::string_view where,
                                  size_t* rest = nullptr);

class TorchFile {
 public:
  // Throws as read_zip_directory and parse_pickle; also for tensors that leave their storage,
  // storages whose bytes are not what was declared, and the tar archives of torch before 0.1.10.
  explicit TorchFile(const std::filesystem::path& path);

  [[nodiscard]] const Pickle& pickle() const { return pickle_; }
  [[nodiscard]] const PickleValue& root() const { return pickle_.at(pickle_.root); }
  // Contiguous, converted to f32.
  [[nodiscard]] Tensor read(const TorchTensor& tensor) const;
  // Of a tensor value; throws kCorruptFile naming `what` for anything else.
  [[nodiscard]] const TorchTensor& tensor(const PickleValue& value, std::string_view what) const;

 private:
  void read_archive();
  void read_stream();
  [[nodiscard]] Pickle next_pickle(uint64_t& at) const;
  void find_storages(const Pickle& keys, uint64_t at);
  [[noreturn]] void fail(std::string_view what) const;

  File file_;
  std::string prefix_;
  std::map<std::string, ZipMember> members_;
  Pickle pickle_;
};

}  // namespace halftone::io
