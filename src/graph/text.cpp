// The text form of a graph: what passes are tested with and what golden prints hold.
#include <charconv>
#include <cstring>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "graph/graph.h"

namespace halftone::graph {
namespace {

constexpr size_t kMaxRank = 8;
constexpr std::string_view kHexDigits = "0123456789abcdef";

std::string quote(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

std::string hex(const Tensor& tensor) {
  std::string text;
  for (size_t i = 0; i < tensor.type().num_bytes(); ++i) {
    const auto byte = std::to_integer<unsigned>(tensor.data()[i]);
    text += kHexDigits[byte >> 4U];
    text += kHexDigits[byte & 15U];
  }
  return text;
}

class Printer {
 public:
  explicit Printer(const Graph& graph) : graph_(graph) {}

  std::string run() {
    for (ValueId id = 0; id < graph_.values().size(); ++id) {
      if (graph_.value(id).is_input) declare(id);
    }
    for (const Node& node : graph_.nodes()) print_node(node);
    for (const GraphOutput& output : graph_.outputs()) {
      text_ += fmt::format("output {} {}\n", quote(output.name), ref(output.value));
    }
    return std::move(text_);
  }

 private:
  std::string number(ValueId id) {
    return fmt::format("%{}", numbers_.emplace(id, numbers_.size()).first->second);
  }

  void declare(ValueId id) {
    const Value& value = graph_.value(id);
    const std::string head =
        fmt::format("{} {} {}", number(id), quote(value.name), to_string(value.type));
    if (value.is_input) {
      text_ += fmt::format("input {} {}\n", head, to_string(value.rate));
    } else if (!value.constant->weight.empty()) {
      text_ += fmt::format("weight {}\n", head);
    } else {
      text_ += fmt::format("literal {} {}\n", head, hex(*value.constant->literal));
    }
  }

  std::string ref(ValueId id) {
    if (!numbers_.contains(id) && graph_.value(id).constant) declare(id);
    return number(id);
  }

  void print_node(const Node& node) {
    std::string operands;
    for (const Operand& operand : node.inputs) {
      operands += fmt::format(" {}={}", to_string(operand.role), ref(operand.value));
    }
    text_ += fmt::format("node {} {}{} ->", quote(node.name), print_attrs(node.attrs), operands);
    for (const ValueId id : node.outputs) {
      text_ += fmt::format(" {} {} {}", number(id), to_string(graph_.type(id)),
                           to_string(graph_.value(id).rate));
    }
    text_ += '\n';
  }

  const Graph& graph_;
  std::map<ValueId, size_t> numbers_;
  std::string text_;
};

// Reads one line word by word; every failure names the line.
class LineParser {
 public:
  LineParser(std::string_view line, size_t number) : rest_(line), number_(number) {}

  [[noreturn]] void fail(std::string_view what) const {
    throw Error(Errc::kCorruptFile, fmt::format("graph text, line {}: {}", number_, what));
  }
  [[nodiscard]] bool done() {
    skip_spaces();
    return rest_.empty();
  }
  std::string_view word() {
    skip_spaces();
    const size_t end = std::min(rest_.find(' '), rest_.size());
    if (end == 0) fail("ends too early");
    const std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end);
    return text;
  }
  std::string quoted() {
    skip_spaces();
    if (rest_.empty() || rest_[0] != '"') fail("wants a quoted name");
    std::string text;
    for (size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == '"') {
        rest_.remove_prefix(i + 1);
        return text;
      }
      if (rest_[i] == '\\' && i + 1 < rest_.size()) ++i;
      text += rest_[i];
    }
    fail("a quoted name does not end");
  }
  // Attributes hold spaces: everything up to the closing brace.
  std::string_view attrs() {
    skip_spaces();
    const size_t end = rest_.find('}');
    if (end == std::string_view::npos) fail("op attributes do not end");
    const std::string_view text = rest_.substr(0, end + 1);
    rest_.remove_prefix(end + 1);
    return text;
  }
  uint32_t id(std::string_view text) const {
    uint32_t value = 0;
    if (text.size() < 2 || text[0] != '%') fail("wants a value like %3");
    const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) fail("wants a value like %3");
    return value;
  }
  TensorType type(std::string_view text) const {
    const size_t open = text.find('[');
    if (open == std::string_view::npos || text.back() != ']') fail("wants a type like f32[2,3]");
    std::vector<int64_t> dims;
    std::string_view list = text.substr(open + 1, text.size() - open - 2);
    while (!list.empty()) {
      int64_t dim = 0;
      const auto [end, error] = std::from_chars(list.data(), list.data() + list.size(), dim);
      if (error != std::errc{} || dim < 0 || dims.size() == kMaxRank) fail("malformed shape");
      dims.push_back(dim);
      list.remove_prefix(static_cast<size_t>(end - list.data()));
      if (!list.empty() && list[0] != ',') fail("malformed shape");
      if (!list.empty()) list.remove_prefix(1);
    }
    return {parse_dtype(text.substr(0, open)), Shape(std::move(dims))};
  }

 private:
  void skip_spaces() {
    while (!rest_.empty() && rest_[0] == ' ') rest_.remove_prefix(1);
  }
  std::string_view rest_;
  size_t number_;
};

class Parser {
 public:
  void line(LineParser& line) {
    const std::string_view kind = line.word();
    if (kind == "node") {
      node(line);
    } else if (kind == "output") {
      const std::string name = line.quoted();
      graph_.add_output(name, known(line, line.word()));
    } else if (kind == "input" || kind == "weight" || kind == "literal") {
      declaration(kind, line);
    } else {
      line.fail(fmt::format("unknown line kind '{}'", kind));
    }
    if (!line.done()) line.fail("has text after its end");
  }
  Graph take() { return std::move(graph_); }

 private:
  ValueId known(LineParser& line, std::string_view text) const {
    const auto it = ids_.find(line.id(text));
    if (it == ids_.end()) line.fail(fmt::format("{} is not defined", text));
    return it->second;
  }
  void define(LineParser& line, uint32_t id, ValueId value) {
    if (!ids_.emplace(id, value).second) line.fail(fmt::format("%{} is defined twice", id));
  }
  void declaration(std::string_view kind, LineParser& line) {
    const uint32_t id = line.id(line.word());
    std::string name = line.quoted();
    TensorType type = line.type(line.word());
    if (kind == "input") {
      define(line, id, graph_.add_input(std::move(name), type, parse_rate(line.word())));
    } else if (kind == "weight") {
      define(line, id, graph_.add_weight(std::move(name), type));
    } else {
      const std::string_view digits = type.num_bytes() == 0 ? std::string_view{} : line.word();
      if (digits.size() != 2 * type.num_bytes()) line.fail("literal bytes do not fit the type");
      Tensor tensor(type);
      for (size_t i = 0; i < type.num_bytes(); ++i) {
        const size_t high = kHexDigits.find(digits[2 * i]);
        const size_t low = kHexDigits.find(digits[2 * i + 1]);
        if (high > 15 || low > 15) line.fail("literal bytes are not hexadecimal");
        tensor.data()[i] = static_cast<std::byte>(high * 16 + low);
      }
      define(line, id, graph_.add_literal(std::move(name), std::move(tensor)));
    }
  }
  void node(LineParser& line) {
    std::string name = line.quoted();
    OpAttrs attrs = parse_attrs(line.attrs());
    std::vector<Operand> operands;
    std::string_view word = line.word();
    for (; word != "->"; word = line.word()) {
      const size_t equals = word.find('=');
      if (equals == std::string_view::npos) line.fail("wants operands like x=%3");
      operands.push_back(
          {parse_role(word.substr(0, equals)), known(line, word.substr(equals + 1))});
    }
    graph_.add_node(std::move(attrs), std::move(operands), std::move(name));
    for (const ValueId value : graph_.nodes().back().outputs) {
      define(line, line.id(line.word()), value);
      if (line.type(line.word()) != graph_.type(value))
        line.fail("output type is not the inferred one");
      if (parse_rate(line.word()) != graph_.value(value).rate)
        line.fail("output rate is not the inferred one");
    }
  }

  Graph graph_;
  std::map<uint32_t, ValueId> ids_;
};

}  // namespace

std::string print(const Graph& graph) { return Printer(graph).run(); }

Graph parse(std::string_view text) {
  Parser parser;
  size_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view content = text.substr(0, end);
    ++number;
    if (!content.empty()) {
      LineParser line(content, number);
      try {
        parser.line(line);
      } catch (const Error& error) {
        const std::string_view what = error.what();
        if (what.starts_with("graph text")) throw;
        line.fail(what);
      }
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parser.take();
}

}  // namespace halftone::graph
