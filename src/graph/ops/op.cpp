#include "graph/ops/op.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::graph {
namespace {

template <class E, size_t N>
using Names = std::array<std::pair<E, std::string_view>, N>;

constexpr Names<Rate, 4> kRates{{{Rate::kLoad, "load"},
                                 {Rate::kPrompt, "prompt"},
                                 {Rate::kSchedule, "schedule"},
                                 {Rate::kStep, "step"}}};
constexpr Names<Role, 27> kRoles{{{Role::kX, "x"},
                                  {Role::kWeight, "weight"},
                                  {Role::kBias, "bias"},
                                  {Role::kRowAdd, "row_add"},
                                  {Role::kResidual, "residual"},
                                  {Role::kGamma, "gamma"},
                                  {Role::kBeta, "beta"},
                                  {Role::kQ, "q"},
                                  {Role::kK, "k"},
                                  {Role::kV, "v"},
                                  {Role::kIndex, "index"},
                                  {Role::kCoefficients, "coefficients"},
                                  {Role::kState, "state"},
                                  {Role::kNoise, "noise"},
                                  {Role::kXScale, "x_scale"},
                                  {Role::kWScale, "w_scale"},
                                  {Role::kYScale, "y_scale"},
                                  {Role::kXZero, "x_zero"},
                                  {Role::kQScale, "q_scale"},
                                  {Role::kKScale, "k_scale"},
                                  {Role::kVScale, "v_scale"},
                                  {Role::kGroupStatistics, "group_statistics"},
                                  {Role::kRowStatistics, "row_statistics"},
                                  {Role::kColumnSum, "column_sum"},
                                  {Role::kJoined, "joined"},
                                  {Role::kAmax, "amax"},
                                  {Role::kY, "y"}}};
constexpr Names<Activation, 5> kActivations{{{Activation::kNone, "none"},
                                             {Activation::kSilu, "silu"},
                                             {Activation::kGelu, "gelu"},
                                             {Activation::kGeluTanh, "gelu_tanh"},
                                             {Activation::kQuickGelu, "quick_gelu"}}};
constexpr Names<Granularity, 5> kGranularities{{{Granularity::kPerTensor, "per_tensor"},
                                                {Granularity::kPerChannel, "per_channel"},
                                                {Granularity::kPerToken, "per_token"},
                                                {Granularity::kUniform, "uniform"},
                                                {Granularity::kPerColumn, "per_column"}}};
constexpr Names<Reduction, 4> kReductions{{{Reduction::kAbsMax, "absmax"},
                                           {Reduction::kMin, "min"},
                                           {Reduction::kMax, "max"},
                                           {Reduction::kSumSquares, "sum_squares"}}};

template <class E, size_t N>
std::string_view name_in(const Names<E, N>& names, E value) {
  for (const auto& [e, name] : names) {
    if (e == value) return name;
  }
  return "?";
}

template <class E, size_t N>
E value_in(const Names<E, N>& names, std::string_view text, std::string_view what) {
  for (const auto& [e, name] : names) {
    if (name == text) return e;
  }
  throw Error(Errc::kCorruptFile, fmt::format("unknown {} '{}'", what, text));
}

}  // namespace

const TensorType* find_operand(std::span<const TypedOperand> operands, Role role) {
  for (const TypedOperand& operand : operands) {
    if (operand.role == role) return &operand.type;
  }
  return nullptr;
}

const TensorType& need_operand(std::span<const TypedOperand> operands, Role role,
                               std::string_view op) {
  const TensorType* type = find_operand(operands, role);
  if (type == nullptr) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: needs an operand '{}'", op, to_string(role)));
  }
  return *type;
}

void require(bool condition, std::string_view op, std::string_view text) {
  if (!condition) throw Error(Errc::kInvalidArgument, fmt::format("{}: {}", op, text));
}

std::string_view to_string(Rate rate) { return name_in(kRates, rate); }
std::string_view to_string(Role role) { return name_in(kRoles, role); }
std::string_view to_string(Activation activation) { return name_in(kActivations, activation); }
std::string_view to_string(Granularity granularity) { return name_in(kGranularities, granularity); }
std::string_view to_string(Reduction reduction) { return name_in(kReductions, reduction); }
Rate parse_rate(std::string_view name) { return value_in(kRates, name, "rate"); }
Role parse_role(std::string_view name) { return value_in(kRoles, name, "role"); }
Activation parse_activation(std::string_view name) {
  return value_in(kActivations, name, "activation");
}
Granularity parse_granularity(std::string_view name) {
  return value_in(kGranularities, name, "granularity");
}
Reduction parse_reduction(std::string_view name) {
  return value_in(kReductions, name, "reduction");
}

}  // namespace halftone::graph
