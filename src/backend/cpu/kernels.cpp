#include "backend/cpu/kernels.h"

#include <array>

#include "backend/cpu/call.h"
#include "reference/reference.h"

namespace halftone::backend::cpu {
namespace {

Support supports_anything(const graph::OpDesc& /*desc*/, const DeviceInfo& /*info*/) {
  return Support::yes();
}

std::unique_ptr<Launch> prepare_reference(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                          Config /*config*/, const Operands& operands) {
  struct Bound {
    graph::OpAttrs attrs;
    std::vector<graph::TypedOperand> typed_inputs, typed_outputs;
    std::vector<TensorView> inputs, outputs;
  };
  Bound bound{desc.attrs,
              {desc.inputs.begin(), desc.inputs.end()},
              {desc.outputs.begin(), desc.outputs.end()},
              {operands.inputs.begin(), operands.inputs.end()},
              {operands.outputs.begin(), operands.outputs.end()}};
  return make_launch([bound = std::move(bound)] {
    reference::run_op({bound.attrs, bound.typed_inputs, bound.typed_outputs}, bound.inputs,
                      bound.outputs);
  });
}

// "cpu.<op>.reference", joined at compile time.
template <class Op>
struct ReferenceName {
  static constexpr auto kText = [] {
    constexpr std::string_view kPrefix = "cpu.";
    constexpr std::string_view kSuffix = ".reference";
    std::array<char, kPrefix.size() + Op::kName.size() + kSuffix.size()> text{};
    size_t at = 0;
    for (const std::string_view part : {kPrefix, Op::kName, kSuffix}) {
      for (const char c : part) text[at++] = c;
    }
    return text;
  }();
  static constexpr std::string_view kView{kText.data(), kText.size()};
};

constexpr Kernel reference_kernel(std::string_view name, graph::OpKind op) {
  Kernel kernel = plain_kernel(name, op, supports_anything, prepare_reference);
  kernel.statistics = true;
  kernel.projects_queries = true;
  return kernel;
}

constexpr Kernel kReferences[] = {
#define HALFTONE_OP(Name) \
  reference_kernel(ReferenceName<graph::Name>::kView, graph::OpKind::k##Name),
#include "graph/ops/ops.inc"
#undef HALFTONE_OP
};

const Kernel* const kOwn[] = {
#define HALFTONE_KERNEL(name) &(name),
#include "backend/cpu/kernels.inc"
#undef HALFTONE_KERNEL
};

}  // namespace

std::span<const Kernel* const> all_kernels() {
  static const auto kList = [] {
    std::array<const Kernel*, std::size(kOwn) + std::size(kReferences)> kernels{};
    size_t at = 0;
    for (const Kernel* kernel : kOwn) kernels[at++] = kernel;
    for (const Kernel& kernel : kReferences) kernels[at++] = &kernel;
    return kernels;
  }();
  return kList;
}

}  // namespace halftone::backend::cpu
