#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "halftone/error.h"

#include "io/torch_file.h"

namespace halftone::io {
namespace {

using Kind = PickleValue::Kind;

// What a pickle may name; an index of this table is the value of a kGlobal.
struct Global {
  std::string_view module, name;
};
constexpr std::array kGlobals{Global{"torch", "FloatStorage"},
                              Global{"torch", "DoubleStorage"},
                              Global{"torch", "HalfStorage"},
                              Global{"torch", "BFloat16Storage"},
                              Global{"torch", "LongStorage"},
                              Global{"torch", "IntStorage"},
                              Global{"torch", "ShortStorage"},
                              Global{"torch", "CharStorage"},
                              Global{"torch", "ByteStorage"},
                              Global{"torch", "BoolStorage"},
                              Global{"collections", "OrderedDict"},
                              Global{"torch._utils", "_rebuild_tensor_v2"},
                              Global{"torch._utils", "_rebuild_parameter"},
                              Global{"torch", "Size"},
                              Global{"torch._utils", "_rebuild_tensor"},
                              Global{"torch.nn.parameter", "Parameter"}};
constexpr int64_t kNumStorages = 10;
constexpr int64_t kOrderedDict = 10, kRebuildTensor = 11, kRebuildParameter = 12, kSize = 13,
                  kRebuildOldTensor = 14, kParameter = 15;

constexpr uint8_t op(char c) { return static_cast<uint8_t>(c); }

// Opcodes that run or import something, or that no state dict needs, by their names.
std::string_view refused_name(uint8_t code) {
  switch (code) {
    case op('i'):
      return "INST";
    case op('o'):
      return "OBJ";
    case op('P'):
      return "PERSID";
    case op('0'):
      return "POP";
    case op('1'):
      return "POP_MARK";
    case op('2'):
      return "DUP";
    case 0x92:
      return "NEWOBJ_EX";
    case 0x82:
    case 0x83:
    case 0x84:
      return "EXT";
    case 0x8b:
      return "LONG4";
    case 0x97:
    case 0x98:
      return "BUFFER";
    default:
      return "unknown";
  }
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 80)) out += c >= ' ' && c <= '~' ? c : '?';
  if (text.size() > 80) out += "...";
  return out;
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t more = lead < 0x80                   ? 0
                        : lead >= 0xc2 && lead < 0xe0 ? 1
                        : lead >= 0xe0 && lead < 0xf0 ? 2
                        : lead >= 0xf0 && lead < 0xf5 ? 3
                                                      : 4;
    if (more == 4 || text.size() - i <= more) return false;
    for (size_t j = 1; j <= more; ++j) {
      if ((static_cast<uint8_t>(text[i + j]) & 0xc0U) != 0x80U) return false;
    }
    i += more + 1;
  }
  return true;
}

class Interpreter {
 public:
  Interpreter(std::span<const std::byte> bytes, std::string_view where)
      : bytes_(bytes), where_(where) {}

  // `rest`: where the bytes that follow are counted, or null to warn of them.
  Pickle run(size_t* rest) {
    if (bytes_.size() < 2 || u8() != 0x80) fail("does not begin with PROTO; not a pickle");
    const uint8_t protocol = u8();
    if (protocol < 2 || protocol > 5) {
      throw Error(
          Errc::kUnsupported,
          fmt::format("{}: pickle protocol {}, wanted 2 to 5; save it again with torch.save",
                      where_, protocol));
    }
    while (!stopped_) step();
    if (rest != nullptr) {
      *rest = bytes_.size() - at_;
    } else if (at_ != bytes_.size()) {
      out_.warnings.push_back(fmt::format("{}: {} bytes follow the pickle and are ignored", where_,
                                          bytes_.size() - at_));
    }
    check_nesting();
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw Error(Errc::kCorruptFile, fmt::format("{}: pickle, byte {}: {}", where_, op_at_, what));
  }

  // --- bytes

  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) fail("is cut short");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + at_, size);
    at_ += size;
    return text;
  }
  uint64_t number(size_t size) {
    const std::string_view text = take(size);
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(text[i]);
    return value;
  }
  uint8_t u8() { return static_cast<uint8_t>(number(1)); }
  std::string_view line() {
    size_t end = at_;
    while (end < bytes_.size() && bytes_[end] != std::byte{'\n'}) ++end;
    const std::string_view text = take(end - at_);
    static_cast<void>(take(1));
    return text;
  }

  // --- values

  uint32_t add(PickleValue value) {
    if (out_.values.size() >= kMaxPickleValues) fail("has too many values");
    out_.values.push_back(std::move(value));
    return static_cast<uint32_t>(out_.values.size() - 1);
  }
  void push(PickleValue value) { stack_.push_back(add(std::move(value))); }
  void push(Kind kind, int64_t integer = 0) {
    PickleValue value;
    value.kind = kind;
    value.integer = integer;
    push(std::move(value));
  }
  void push_text(std::string_view text) {
    if (!is_utf8(text)) fail("a string is no UTF-8");
    PickleValue value;
    value.kind = Kind::kString;
    value.text = text;
    push(std::move(value));
  }
  PickleValue& value(uint32_t index) { return out_.values[index]; }

  // The stack above the last mark belongs to the opcode that ends it.
  uint32_t pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("stack underflow");
    const uint32_t index = stack_.back();
    stack_.pop_back();
    return index;
  }
  uint32_t top() {
    const uint32_t index = pop();
    stack_.push_back(index);
    return index;
  }
  std::vector<uint32_t> pop_to_mark() {
    if (marks_.empty()) fail("no MARK");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<uint32_t> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::vector<uint32_t> items) {
    PickleValue tuple;
    tuple.kind = Kind::kTuple;
    tuple.items = std::move(items);
    push(std::move(tuple));
  }
  void push_short_tuple(int size) {
    std::vector<uint32_t> items(static_cast<size_t>(size));
    for (size_t i = items.size(); i-- > 0;) items[i] = pop();
    push_tuple(std::move(items));
  }

  void append(std::span<const uint32_t> items) {
    PickleValue& list = value(top());
    if (list.kind != Kind::kList) fail("APPEND to something that is no list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }
  void set_items(std::span<const uint32_t> items) {
    PickleValue& dict = value(top());
    if (dict.kind != Kind::kDict) fail("SETITEM on something that is no dict");
    if (items.size() % 2 != 0) fail("SETITEMS with a key that has no value");
    dict.items.insert(dict.items.end(), items.begin(), items.end());
  }

  // --- memo

  void remember(uint64_t key) {
    if (memo_.size() >= kMaxPickleMemo && !memo_.contains(key)) fail("has too large a memo");
    memo_[key] = top();
  }
  void recall(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail(fmt::format("memo {} is not set", key));
    grow(stack_.size());
    stack_.push_back(found->second);
  }
  void grow(size_t size) const {
    if (size >= kMaxPickleValues) fail("has too deep a stack");
  }

  // --- globals and what they make

  void push_global(std::string_view module, std::string_view name) {
    for (size_t i = 0; i < kGlobals.size(); ++i) {
      if (kGlobals[i].module == module && kGlobals[i].name == name) {
        push(Kind::kGlobal, static_cast<int64_t>(i));
        return;
      }
    }
    fail(fmt::format("refused global {}.{}; only tensors, dicts, lists and plain values are read",
                     printable(module), printable(name)));
  }

  void stack_global() {
    const uint32_t name = pop();
    const uint32_t module = pop();
    if (value(name).kind != Kind::kString || value(module).kind != Kind::kString) {
      fail("STACK_GLOBAL of something that is no string");
    }
    const std::string module_text = value(module).text;
    const std::string name_text = value(name).text;
    push_global(module_text, name_text);
  }

  // ('storage', type, key, location, number of elements); in a stream also None, where a view of
  // another storage would be named.
  void persistent_id() {
    std::vector<uint32_t> id = tuple_items(pop(), "a persistent id");
    if (id.size() == 6 && value(id[5]).kind == Kind::kNone) id.pop_back();
    const bool fits = id.size() == 5 && value(id[0]).kind == Kind::kString &&
                      value(id[0]).text == "storage" && value(id[1]).kind == Kind::kGlobal &&
                      value(id[1]).integer < kNumStorages && value(id[2]).kind == Kind::kString &&
                      value(id[3]).kind == Kind::kString && value(id[4]).kind == Kind::kInteger;
    if (!fits) fail("a persistent id is not ('storage', type, key, location, size)");
    TorchTensor storage;
    storage.type = static_cast<TorchType>(value(id[1]).integer);
    storage.storage = value(id[2]).text;
    storage.storage_size = value(id[4]).integer;
    const bool digits =
        !storage.storage.empty() && storage.storage.size() <= 20 &&
        std::ranges::all_of(storage.storage, [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) fail(fmt::format("storage key '{}' is no number", printable(storage.storage)));
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 16;
    if (storage.storage_size < 0 || storage.storage_size > kMost) {
      fail(fmt::format("a storage of {} elements", storage.storage_size));
    }
    const auto [entry, is_new] = storages_.emplace(storage.storage, out_.tensors.size());
    if (is_new) {
      out_.tensors.push_back(std::move(storage));
    } else {
      const TorchTensor& known = out_.tensors[entry->second];
      if (known.type != storage.type || known.storage_size != storage.storage_size) {
        fail(fmt::format("storage '{}' has two types or sizes", known.storage));
      }
    }
    push(Kind::kStorage, static_cast<int64_t>(entry->second));
  }

  std::vector<uint32_t> tuple_items(uint32_t index, std::string_view what) {
    if (value(index).kind != Kind::kTuple) fail(fmt::format("{} is no tuple", what));
    return value(index).items;
  }
  std::vector<int64_t> integers(uint32_t index, std::string_view what) {
    std::vector<int64_t> numbers;
    for (const uint32_t item : tuple_items(index, what)) {
      if (value(item).kind != Kind::kInteger || value(item).integer < 0) {
        fail(fmt::format("{} holds something else than integers from 0", what));
      }
      numbers.push_back(value(item).integer);
    }
    return numbers;
  }

  void reduce() {
    const std::vector<uint32_t> arguments = tuple_items(pop(), "the arguments of REDUCE");
    const PickleValue callee = value(pop());
    if (callee.kind != Kind::kGlobal) fail("REDUCE of something that is no global");
    switch (callee.integer) {
      case kOrderedDict:
        ordered_dict(arguments);
        return;
      case kRebuildTensor:
      case kRebuildOldTensor:
        rebuild_tensor(arguments, callee.integer == kRebuildOldTensor);
        return;
      case kRebuildParameter:
        if (arguments.size() != 3 || value(arguments[0]).kind != Kind::kTensor) {
          fail("_rebuild_parameter wants a tensor and two more arguments");
        }
        stack_.push_back(arguments[0]);
        return;
      case kSize:
        if (arguments.size() != 1) fail("torch.Size wants one argument");
        static_cast<void>(integers(arguments[0], "a size"));
        stack_.push_back(arguments[0]);
        return;
      default:
        fail(fmt::format("REDUCE of {}.{}", kGlobals[static_cast<size_t>(callee.integer)].module,
                         kGlobals[static_cast<size_t>(callee.integer)].name));
    }
  }

  // Empty, or of pairs, as Python 2 writes it.
  void ordered_dict(const std::vector<uint32_t>& arguments) {
    PickleValue dict;
    dict.kind = Kind::kDict;
    dict.ordered = true;
    const bool has_pairs = arguments.size() == 1 && value(arguments[0]).kind == Kind::kList;
    if (!arguments.empty() && !has_pairs) fail("OrderedDict with other arguments than one list");
    if (has_pairs) {
      for (const uint32_t pair : value(arguments[0]).items) {
        const PickleValue& items = value(pair);
        const bool fits =
            (items.kind == Kind::kList || items.kind == Kind::kTuple) && items.items.size() == 2;
        if (!fits) fail("OrderedDict of something else than pairs");
        dict.items.insert(dict.items.end(), items.items.begin(), items.items.end());
      }
    }
    push(std::move(dict));
  }

  // An empty Parameter of torch before 0.4; BUILD gives it its tensor.
  void new_object() {
    const std::vector<uint32_t> arguments = tuple_items(pop(), "the arguments of NEWOBJ");
    const PickleValue& type = value(pop());
    if (type.kind != Kind::kGlobal || type.integer != kParameter || !arguments.empty()) {
      fail("NEWOBJ of something else than an empty torch.nn.parameter.Parameter");
    }
    push(Kind::kParameter);
  }

  // (storage, offset, size, stride, requires_grad, hooks[, metadata]); before torch 0.4 the first
  // four.
  void rebuild_tensor(const std::vector<uint32_t>& arguments, bool is_old) {
    const bool has_count =
        is_old ? arguments.size() == 4 : arguments.size() == 6 || arguments.size() == 7;
    const bool fits = has_count && value(arguments[0]).kind == Kind::kStorage &&
                      value(arguments[1]).kind == Kind::kInteger;
    if (!fits) fail("_rebuild_tensor wants a storage, an offset, sizes and strides");
    TorchTensor tensor = out_.tensors[static_cast<size_t>(value(arguments[0]).integer)];
    tensor.offset = value(arguments[1]).integer;
    tensor.shape = integers(arguments[2], "a size");
    tensor.strides = integers(arguments[3], "a stride");
    check(tensor);
    out_.tensors.push_back(std::move(tensor));
    push(Kind::kTensor, static_cast<int64_t>(out_.tensors.size() - 1));
  }

  // Every element lies in the storage and no two are one.
  void check(const TorchTensor& tensor) {
    constexpr size_t kMaxRank = 16;
    if (tensor.shape.size() != tensor.strides.size() || tensor.shape.size() > kMaxRank) {
      fail("a tensor's sizes and strides disagree");
    }
    if (tensor.offset < 0 || tensor.offset > tensor.storage_size) {
      fail("a tensor begins outside of its storage");
    }
    if (std::ranges::find(tensor.shape, 0) != tensor.shape.end()) {
      // The product of the others must still be a number.
      constexpr int64_t kMost = int64_t{1} << 40;
      int64_t product = 1;
      for (const int64_t size : tensor.shape) {
        if (size > kMost / product) fail("a tensor's size is out of range");
        product *= std::max<int64_t>(size, 1);
      }
      return;
    }
    std::vector<std::pair<int64_t, int64_t>> axes;  // stride, size
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      if (tensor.shape[i] > 1) axes.emplace_back(tensor.strides[i], tensor.shape[i]);
    }
    std::ranges::sort(axes);
    const int64_t room = tensor.storage_size - tensor.offset;
    if (room < 1) fail("a tensor leaves its storage");
    int64_t extent = 1;  // elements from the first to the last, so far
    for (const auto& [stride, size] : axes) {
      if (stride < extent) fail("a tensor's elements overlap");
      if (stride > (room - extent) / (size - 1)) fail("a tensor leaves its storage");
      extent += stride * (size - 1);
    }
  }

  void build() {
    const uint32_t state = pop();
    PickleValue& target = value(top());
    if (target.kind == Kind::kParameter) {
      const std::vector<uint32_t> parts = tuple_items(state, "the state of a Parameter");
      if (parts.empty() || value(parts[0]).kind != Kind::kTensor) {
        fail("the state of a Parameter does not begin with a tensor");
      }
      target.kind = Kind::kTensor;
      target.integer = value(parts[0]).integer;
      return;
    }
    if (target.kind != Kind::kDict || !target.ordered || value(state).kind != Kind::kDict) {
      fail("BUILD of something else than an OrderedDict with a dict");
    }
  }

  void long1() {
    const std::string_view text = take(u8());
    if (text.size() > 8) fail(fmt::format("an integer of {} bytes", text.size()));
    uint64_t number =
        !text.empty() && (static_cast<uint8_t>(text.back()) & 0x80U) != 0 ? ~uint64_t{0} : 0;
    for (size_t i = text.size(); i-- > 0;) number = number << 8 | static_cast<uint8_t>(text[i]);
    push(Kind::kInteger, static_cast<int64_t>(number));
  }

  void bin_float() {
    uint64_t bits = 0;
    for (const char c : take(8)) bits = bits << 8 | static_cast<uint8_t>(c);
    PickleValue number;
    number.kind = Kind::kNumber;
    number.number = std::bit_cast<double>(bits);
    push(std::move(number));
  }

  void stop() {
    if (!marks_.empty() || stack_.size() != 1) fail("STOP with a stack of other than one value");
    out_.root = stack_.back();
    stopped_ = true;
  }

  void step() {
    op_at_ = at_;
    const uint8_t code = u8();
    if (plain_value(code) || container(code)) return;
    switch (code) {
      case 0x95:  // FRAME
        if (number(8) > bytes_.size() - at_) fail("FRAME is longer than the rest");
        return;
      case op('('):
        grow(marks_.size());
        marks_.push_back(stack_.size());
        return;
      case op('.'):
        stop();
        return;
      case op('h'):
        recall(u8());
        return;
      case op('j'):
        recall(number(4));
        return;
      case op('q'):
        remember(u8());
        return;
      case op('r'):
        remember(number(4));
        return;
      case 0x94:  // MEMOIZE
        remember(memo_.size());
        return;
      case op('c'): {
        const std::string_view module = line();
        push_global(module, line());
        return;
      }
      case 0x93:
        stack_global();
        return;
      case op('R'):
        reduce();
        return;
      case op('Q'):
        persistent_id();
        return;
      case op('b'):
        build();
        return;
      case 0x81:
        new_object();
        return;
      default:
        fail(fmt::format("refused opcode 0x{:02x} ({})", code, refused_name(code)));
    }
  }

  bool plain_value(uint8_t code) {
    switch (code) {
      case op('N'):
        push(Kind::kNone);
        return true;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push(Kind::kBool, code == 0x88 ? 1 : 0);
        return true;
      case op('J'):
        push(Kind::kInteger, static_cast<int32_t>(static_cast<uint32_t>(number(4))));
        return true;
      case op('K'):
        push(Kind::kInteger, u8());
        return true;
      case op('M'):
        push(Kind::kInteger, static_cast<int64_t>(number(2)));
        return true;
      case 0x8a:
        long1();
        return true;
      case op('G'):
        bin_float();
        return true;
      case op('X'):
      case op('T'):  // BINSTRING
        push_text(take(number(4)));
        return true;
      case 0x8c:     // SHORT_BINUNICODE
      case op('U'):  // SHORT_BINSTRING
        push_text(take(u8()));
        return true;
      default:
        return false;
    }
  }

  bool container(uint8_t code) {
    switch (code) {
      case op(')'):
        push_tuple({});
        return true;
      case op(']'):
        push(Kind::kList);
        return true;
      case op('}'):
        push(Kind::kDict);
        return true;
      case op('t'):
        push_tuple(pop_to_mark());
        return true;
      case 0x85:
      case 0x86:
      case 0x87:
        push_short_tuple(code - 0x84);
        return true;
      case op('a'): {
        const uint32_t item = pop();
        append({&item, 1});
        return true;
      }
      case op('e'):
        append(pop_to_mark());
        return true;
      case op('s'): {
        const uint32_t item = pop();
        const std::array pair{pop(), item};
        set_items(pair);
        return true;
      }
      case op('u'):
        set_items(pop_to_mark());
        return true;
      default:
        return false;
    }
  }

  // Containers may be shared, but neither hold themselves nor nest too deep: a walk that remembers
  // what it has finished, with its own stack.
  void check_nesting() {
    struct Place {
      uint32_t index;
      size_t next;
    };
    std::vector<uint8_t> seen(out_.values.size(), 0);  // 1 = open, 2 = finished
    std::vector<int> height(out_.values.size(), 0);
    std::vector<Place> path{{out_.root, 0}};
    seen[out_.root] = 1;
    while (!path.empty()) {
      Place& place = path.back();
      const std::vector<uint32_t>& items = out_.values[place.index].items;
      if (place.next == items.size()) {
        const uint32_t done = place.index;
        seen[done] = 2;
        path.pop_back();
        if (height[done] >= kMaxPickleDepth) fail("containers nest too deep");
        if (!path.empty()) {
          int& above = height[path.back().index];
          above = std::max(above, height[done] + 1);
        }
        continue;
      }
      const uint32_t item = items[place.next++];
      if (seen[item] == 1) fail("a container holds itself");
      if (seen[item] == 2) {
        height[place.index] = std::max(height[place.index], height[item] + 1);
        continue;
      }
      seen[item] = 1;
      path.push_back({item, 0});
    }
  }

  std::span<const std::byte> bytes_;
  std::string_view where_;
  size_t at_ = 0, op_at_ = 0;
  bool stopped_ = false;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;
  std::map<uint64_t, uint32_t> memo_;
  std::map<std::string, size_t> storages_;  // key -> index of out_.tensors
  Pickle out_;
};

}  // namespace

const PickleValue* Pickle::find(const PickleValue& dict, std::string_view key) const {
  const PickleValue* found = nullptr;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const PickleValue& name = values[dict.items[i]];
    if (name.kind == Kind::kString && name.text == key) found = &values[dict.items[i + 1]];
  }
  return dict.kind == Kind::kDict ? found : nullptr;
}

Pickle parse_pickle(std::span<const std::byte> bytes, std::string_view where, size_t* rest) {
  if (bytes.size() > kMaxPickleBytes) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: a pickle of {} bytes, wanted at most {}",
                                                where, bytes.size(), kMaxPickleBytes));
  }
  return Interpreter(bytes, where).run(rest);
}

}  // namespace halftone::io
