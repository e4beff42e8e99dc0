#include "graph/ops/ops.h"

#include <charconv>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "halftone/error.h"

namespace halftone::graph {
namespace {

using FieldMap = std::map<std::string, std::string, std::less<>>;

// One overload a field type; printing and parsing use the same set.
std::string field_text(bool value) { return value ? "true" : "false"; }
std::string field_text(int64_t value) { return fmt::format("{}", value); }
std::string field_text(double value) { return fmt::format("{}", value); }
std::string field_text(Activation value) { return std::string(to_string(value)); }
std::string field_text(DType value) { return std::string(to_string(value)); }
std::string field_text(Granularity value) { return std::string(to_string(value)); }
std::string field_text(Reduction value) { return std::string(to_string(value)); }
std::string field_text(const std::vector<int64_t>& value) {
  return fmt::format("{}", fmt::join(value, ","));
}

[[noreturn]] void bad_field(std::string_view text) {
  throw Error(Errc::kCorruptFile, fmt::format("malformed op attribute '{}'", text));
}

template <class T>
T parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) bad_field(text);
  return value;
}

void parse_field(std::string_view text, bool& value) {
  if (text != "true" && text != "false") bad_field(text);
  value = text == "true";
}
void parse_field(std::string_view text, int64_t& value) { value = parse_number<int64_t>(text); }
void parse_field(std::string_view text, double& value) { value = parse_number<double>(text); }
void parse_field(std::string_view text, Activation& value) { value = parse_activation(text); }
void parse_field(std::string_view text, DType& value) { value = parse_dtype(text); }
void parse_field(std::string_view text, Granularity& value) { value = parse_granularity(text); }
void parse_field(std::string_view text, Reduction& value) { value = parse_reduction(text); }
void parse_field(std::string_view text, std::vector<int64_t>& value) {
  value.clear();
  while (!text.empty()) {
    const size_t comma = text.find(',');
    value.push_back(parse_number<int64_t>(text.substr(0, comma)));
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
  }
}

template <class Op>
OpAttrs parse_op(const FieldMap& fields) {
  Op op;
  size_t used = 0;
  Op::fields(op, [&](std::string_view name, auto& field, const auto&... by_default) {
    const auto it = fields.find(name);
    if (it == fields.end()) {
      if (sizeof...(by_default) > 0) return;
      throw Error(Errc::kCorruptFile,
                  fmt::format("{}: attribute '{}' is missing", Op::kName, name));
    }
    parse_field(it->second, field);
    ++used;
  });
  if (used != fields.size()) {
    throw Error(Errc::kCorruptFile, fmt::format("{}: has attributes it does not know", Op::kName));
  }
  return op;
}

}  // namespace

std::vector<TensorType> infer(const NoOp& /*op*/, std::span<const TypedOperand> /*in*/) {
  throw Error(Errc::kInternal, "an empty op has no outputs");
}

std::string_view name_of(const OpAttrs& attrs) {
  return std::visit([](const auto& op) { return std::decay_t<decltype(op)>::kName; }, attrs);
}

std::string_view name_of(OpKind kind) {
  switch (kind) {
    case OpKind::kNoOp:
      return NoOp::kName;
#define HALFTONE_OP(Name) \
  case OpKind::k##Name:   \
    return Name::kName;
#include "graph/ops/ops.inc"
#undef HALFTONE_OP
    case OpKind::kCount:
      break;
  }
  return "?";
}

std::vector<TensorType> infer_types(const OpAttrs& attrs, std::span<const TypedOperand> in) {
  return std::visit([&](const auto& op) { return infer(op, in); }, attrs);
}

Role output_role(const OpAttrs& attrs, size_t index) {
  if (index == 0) return Role::kY;
  if (const auto* norm = std::get_if<GroupNorm>(&attrs)) {
    return norm->joins && index == num_norm_outputs(norm->dynamic) ? Role::kJoined : Role::kYScale;
  }
  const auto* linear = std::get_if<Linear>(&attrs);
  const auto* conv = std::get_if<Conv2d>(&attrs);
  if (linear != nullptr && linear->row_statistics) return Role::kRowStatistics;
  if (linear != nullptr ? linear->amax : conv != nullptr && conv->amax) return Role::kAmax;
  return linear != nullptr || conv != nullptr ? Role::kGroupStatistics : Role::kYScale;
}

std::vector<TypedOperand> infer_outputs(const OpAttrs& attrs, std::span<const TypedOperand> in) {
  std::vector<TypedOperand> outputs;
  for (TensorType& type : infer_types(attrs, in)) {
    outputs.push_back({output_role(attrs, outputs.size()), std::move(type)});
  }
  return outputs;
}

bool makes_statistics(const OpDesc& desc) {
  return desc.outputs.size() > 1 &&
         (std::holds_alternative<Linear>(desc.attrs) || std::holds_alternative<Conv2d>(desc.attrs));
}

std::string print_attrs(const OpAttrs& attrs) {
  return std::visit(
      [](const auto& op) {
        using Op = std::decay_t<decltype(op)>;
        std::string text(Op::kName);
        text += '{';
        Op::fields(op, [&](std::string_view name, const auto& field, const auto&... by_default) {
          if ((... || (field == by_default))) return;
          if (text.back() != '{') text += ' ';
          text.append(name).append("=").append(field_text(field));
        });
        return text + '}';
      },
      attrs);
}

OpAttrs parse_attrs(std::string_view text) {
  const size_t open = text.find('{');
  if (open == std::string_view::npos || text.empty() || text.back() != '}') bad_field(text);
  const std::string_view name = text.substr(0, open);
  std::string_view body = text.substr(open + 1, text.size() - open - 2);
  FieldMap fields;
  while (!body.empty()) {
    const size_t space = body.find(' ');
    const std::string_view field = body.substr(0, space);
    const size_t equals = field.find('=');
    if (equals == std::string_view::npos) bad_field(field);
    if (!fields.emplace(field.substr(0, equals), field.substr(equals + 1)).second) bad_field(field);
    body = space == std::string_view::npos ? std::string_view{} : body.substr(space + 1);
  }
#define HALFTONE_OP(Name) \
  if (name == Name::kName) return parse_op<Name>(fields);
#include "graph/ops/ops.inc"
#undef HALFTONE_OP
  throw Error(Errc::kCorruptFile, fmt::format("unknown op '{}'", name));
}

}  // namespace halftone::graph
