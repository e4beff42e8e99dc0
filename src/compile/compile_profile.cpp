// Kernel selection, split by rate, storage of every value, arena offsets.
#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "compile/compile.h"
#include "compile/memory_planner.h"

namespace halftone::compile {
namespace {

using backend::Kernel;
using graph::Graph;
using graph::Node;
using graph::Rate;
using graph::Role;
using graph::ValueId;
using runtime::Call;
using runtime::Profile;
using runtime::Slot;
using runtime::SlotId;
using runtime::Storage;

constexpr size_t kNever = std::numeric_limits<size_t>::max();

size_t index_of(Rate rate) { return static_cast<size_t>(rate); }

bool is_disabled(const CompileOptions& options, std::string_view kernel) {
  return std::ranges::any_of(options.disabled_kernels, [&](const std::string& pattern) {
    return names_kernel(pattern, kernel);
  });
}

class ProfileCompiler {
 public:
  ProfileCompiler(const Graph& graph, const backend::DeviceInfo& device,
                  std::span<const Kernel* const> kernels, const CompileOptions& options)
      : graph_(graph), device_(device), kernels_(kernels), options_(options) {}

  Profile run(std::map<std::string, int64_t> shape) {
    profile_.shape = std::move(shape);
    slot_of_.assign(graph_.values().size(), runtime::kNoSlot);
    find_views();
    create_slots();
    for (const Node& node : graph_.nodes()) {
      if (!is_view(node.outputs[0])) emit_call(node);
    }
    bind_names();
    place_persistent();
    place_arena();
    return std::move(profile_);
  }

 private:
  [[nodiscard]] bool is_view(ValueId id) const { return view_of_[id] != graph::kNoValue; }

  // A reshape of a dense value and a slice are addresses, not work: a slice of the leading axis
  // always, one of the last axis when only attention (which takes pitched rows) reads it.
  void find_views() {
    const size_t n = graph_.values().size();
    view_of_.assign(n, graph::kNoValue);
    pitched_ok_.assign(n, true);
    for (const Node& node : graph_.nodes()) {
      for (const graph::Operand& operand : node.inputs) {
        if (!takes_pitched_rows(node.attrs, operand.role)) pitched_ok_[operand.value] = false;
      }
    }
    for (const graph::GraphOutput& output : graph_.outputs()) pitched_ok_[output.value] = false;
    for (const Node& node : graph_.nodes()) {
      const ValueId out = node.outputs[0];
      if (graph_.value(out).rate == Rate::kLoad) continue;
      const ValueId x = node.inputs[0].value;
      if (graph_.value(x).rate == Rate::kLoad) continue;
      if (const auto* slice = std::get_if<graph::Slice>(&node.attrs)) {
        const auto rank = static_cast<int64_t>(graph_.type(x).shape.rank());
        const int64_t axis = slice->axis < 0 ? slice->axis + rank : slice->axis;
        const bool leading = axis == 0 && rank > 1 && !is_pitched(x);
        const bool last = axis == rank - 1 && pitched_ok_[out] && !is_view(x);
        if (leading || last) view_of_[out] = x;
      } else if (std::holds_alternative<graph::Reshape>(node.attrs) && !is_pitched(x)) {
        view_of_[out] = x;
      }
      if (is_view(out)) view_node_[out] = &node;
    }
  }

  [[nodiscard]] bool is_pitched(ValueId id) const {
    if (!is_view(id)) return false;
    return view_node_.at(id)->attrs.index() == graph::OpAttrs(graph::Slice{}).index() &&
           graph_.type(id).shape.row_size() != graph_.type(view_of_[id]).shape.row_size();
  }

  void create_slots() {
    std::vector<bool> used(graph_.values().size(), false);
    for (const Node& node : graph_.nodes()) {
      for (const graph::Operand& operand : node.inputs) used[operand.value] = true;
      for (const ValueId id : node.outputs) used[id] = true;
    }
    for (const graph::GraphOutput& output : graph_.outputs()) used[output.value] = true;
    for (ValueId id = 0; id < graph_.values().size(); ++id) {
      const graph::Value& value = graph_.value(id);
      if (!used[id] && !value.is_input) continue;
      Slot slot;
      slot.name = value.name;
      slot.type = value.type;
      slot.rate = value.rate;
      slot.row_pitch = value.type.shape.row_size();
      if (value.constant) {
        slot.storage = value.constant->literal ? Storage::kLiteral : Storage::kWeight;
        slot.weight = value.constant->weight;
        slot.literal = value.constant->literal;
      } else if (value.is_input) {
        slot.storage = Storage::kPersistent;
      } else if (value.rate == Rate::kLoad) {
        slot.storage = Storage::kConstant;
      } else {
        slot.storage = Storage::kArena;
      }
      slot_of_[id] = static_cast<SlotId>(profile_.slots.size());
      profile_.slots.push_back(std::move(slot));
    }
    // Nodes come in order, so the base of a view is resolved before the view.
    for (const Node& node : graph_.nodes()) {
      if (is_view(node.outputs[0])) resolve_view(node);
    }
  }

  void resolve_view(const Node& node) {
    Slot& slot = profile_.slots[slot_of_[node.outputs[0]]];
    const Slot& source = profile_.slots[slot_of_[node.inputs[0].value]];
    const bool nested = source.storage == Storage::kView;
    slot.storage = Storage::kView;
    slot.base = nested ? source.base : slot_of_[node.inputs[0].value];
    slot.offset = nested ? source.offset : 0;
    if (const auto* slice = std::get_if<graph::Slice>(&node.attrs)) {
      const Shape& from = source.type.shape;
      const auto rank = static_cast<int64_t>(from.rank());
      const int64_t axis = slice->axis < 0 ? slice->axis + rank : slice->axis;
      const int64_t stride =
          axis == 0 && rank > 1 ? from.num_elements() / std::max<int64_t>(from[0], 1) : 1;
      slot.offset += static_cast<uint64_t>(slice->begin * stride) * size_of(slot.type.dtype);
      if (stride == 1) slot.row_pitch = from.row_size();
    }
  }

  void emit_call(const Node& node) {
    const std::vector<graph::TypedOperand> in = graph_.typed_inputs(node);
    const std::vector<graph::TypedOperand> out = graph_.typed_outputs(node);
    const graph::OpDesc desc{node.attrs, in, out};
    Call call;
    call.name = node.name;
    call.attrs = node.attrs;
    for (const graph::Operand& operand : node.inputs) {
      call.inputs.push_back({operand.role, slot_of_[operand.value]});
    }
    for (const ValueId id : node.outputs) call.outputs.push_back(slot_of_[id]);
    const Kernel* kernel = select(node, desc, call);
    call.kernel = kernel->name;
    if (kernel->configs != nullptr) call.config = kernel->configs(desc, device_).at(0);
    if (kernel->workspace_bytes != nullptr) {
      call.workspace_bytes = kernel->workspace_bytes(desc, device_, call.config);
    }
    call.packs_weight =
        kernel->packed_bytes != nullptr && kernel->packed_bytes(desc, device_, call.config) > 0;
    profile_.stages[index_of(graph_.value(node.outputs[0]).rate)].push_back(std::move(call));
  }

  const Kernel* select(const Node& node, const graph::OpDesc& desc, Call& call) const {
    for (const graph::Operand& operand : node.inputs) {
      const bool dense = profile_.slots[slot_of_[operand.value]].row_pitch ==
                         graph_.type(operand.value).shape.row_size();
      check_internal(dense || takes_pitched_rows(node.attrs, operand.role),
                     "only attention reads pitched views");
    }
    for (const Kernel* kernel : kernels_) {
      if (kernel->op != kind_of(node.attrs)) continue;
      const std::string reason = refusal(*kernel, node, desc);
      if (reason.empty()) return kernel;
      call.refused.emplace_back(kernel->name, reason);
    }
    std::string reasons;
    for (const auto& [name, reason] : call.refused)
      reasons += fmt::format("\n  {}: {}", name, reason);
    throw Error(Errc::kUnsupported, fmt::format("{}: no kernel of device '{}' takes {} -> {}:{}",
                                                node.name, device_.name, print_attrs(node.attrs),
                                                to_string(desc.output()), reasons));
  }

  std::string refusal(const Kernel& kernel, const Node& node, const graph::OpDesc& desc) const {
    if (is_disabled(options_, kernel.name)) return "switched off";
    const backend::Support support = supports(kernel, desc, device_);
    if (!support.ok) return support.reason;
    if (kernel.packed_bytes != nullptr) {
      const backend::Config config =
          kernel.configs != nullptr ? kernel.configs(desc, device_).at(0) : backend::Config{};
      // Weights are packed for the stages after loading.
      const bool loads = graph_.value(node.outputs[0]).rate == Rate::kLoad;
      for (const graph::Operand& operand : node.inputs) {
        const bool is_constant = graph_.value(operand.value).rate == Rate::kLoad;
        if (operand.role == Role::kWeight && (loads || !is_constant) &&
            kernel.packed_bytes(desc, device_, config) > 0) {
          return "packs its weight, which is no constant here";
        }
      }
    }
    return {};
  }

  void bind_names() {
    for (ValueId id = 0; id < graph_.values().size(); ++id) {
      if (graph_.value(id).is_input)
        profile_.inputs.push_back({graph_.value(id).name, slot_of_[id]});
    }
    for (const graph::GraphOutput& output : graph_.outputs()) {
      if (graph_.value(output.value).rate == Rate::kLoad) {
        throw Error(Errc::kUnsupported,
                    fmt::format("output '{}' depends on no input", output.name));
      }
      profile_.outputs.push_back({output.name, slot_of_[output.value]});
    }
  }

  [[nodiscard]] SlotId base_of(SlotId slot) const {
    return profile_.slots[slot].storage == Storage::kView ? profile_.slots[slot].base : slot;
  }

  // Outputs, and values read in a later stage than they are made in, keep their memory.
  void place_persistent() {
    const auto keep = [&](SlotId slot) {
      Slot& base = profile_.slots[base_of(slot)];
      if (base.storage == Storage::kArena) base.storage = Storage::kPersistent;
    };
    for (const runtime::Binding& output : profile_.outputs) keep(output.slot);
    for (size_t stage = 1; stage < profile_.stages.size(); ++stage) {
      for (const Call& call : profile_.stages[stage]) {
        for (const runtime::CallOperand& operand : call.inputs) {
          const Slot& base = profile_.slots[base_of(operand.slot)];
          if (base.rate != Rate::kLoad && index_of(base.rate) < stage) keep(operand.slot);
        }
      }
    }
    // What the schedule makes lies together: the executor keeps it as one row.
    for (const bool of_schedule : {true, false}) {
      for (Slot& slot : profile_.slots) {
        if (slot.storage != Storage::kPersistent || (slot.rate == Rate::kSchedule) != of_schedule)
          continue;
        slot.offset = profile_.persistent_bytes;
        profile_.persistent_bytes +=
            (slot.type.num_bytes() + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
      }
    }
  }

  // The operand in whose place the call's result may lie: it ends here, whole, and nothing else of
  // the call reads it.
  [[nodiscard]] std::optional<SlotId> replaced(const Call& call, size_t index,
                                               const std::vector<size_t>& last_read) const {
    if (!backend::find_kernel(kernels_, call.kernel)->in_place) return std::nullopt;
    const SlotId base = base_of(call.inputs.front().slot);
    const Slot& from = profile_.slots[base];
    const Slot& to = profile_.slots[call.outputs.front()];
    if (from.storage != Storage::kArena || to.storage != Storage::kArena) return std::nullopt;
    if (last_read[base] != index || from.type.num_bytes() != to.type.num_bytes() ||
        profile_.slots[call.inputs.front().slot].type != to.type) {
      return std::nullopt;
    }
    const auto uses = std::ranges::count_if(call.inputs, [&](const runtime::CallOperand& operand) {
      return base_of(operand.slot) == base;
    });
    return uses == 1 ? std::optional(base) : std::nullopt;
  }

  // Stages never overlap in time, so each is planned from offset 0.
  void place_arena() {
    for (size_t stage = 1; stage < profile_.stages.size(); ++stage) {
      std::vector<Call>& calls = profile_.stages[stage];
      std::vector<size_t> last_read(profile_.slots.size(), kNever);
      for (size_t i = 0; i < calls.size(); ++i) {
        for (const runtime::CallOperand& operand : calls[i].inputs) {
          last_read[base_of(operand.slot)] = i;
        }
      }
      std::vector<size_t> index(profile_.slots.size(), kNever);
      std::vector<Lifetime> lifetimes;
      const auto touch = [&](SlotId slot, size_t call) {
        const SlotId base = base_of(slot);
        if (profile_.slots[base].storage != Storage::kArena) return;
        if (index[base] == kNever) {
          index[base] = lifetimes.size();
          lifetimes.push_back({profile_.slots[base].type.num_bytes(), call, call});
        }
        lifetimes[index[base]].last = call;
      };
      for (size_t i = 0; i < calls.size(); ++i) {
        for (const runtime::CallOperand& operand : calls[i].inputs) touch(operand.slot, i);
        if (const auto place = replaced(calls[i], i, last_read)) {
          index[calls[i].outputs.front()] = index[*place];
        }
        for (const SlotId slot : calls[i].outputs) touch(slot, i);
      }
      const size_t num_places = lifetimes.size();
      for (size_t i = 0; i < calls.size(); ++i)
        lifetimes.push_back({calls[i].workspace_bytes, i, i});
      profile_.arena_bytes = std::max(profile_.arena_bytes, plan_offsets(lifetimes));
      for (SlotId slot = 0; slot < index.size(); ++slot) {
        if (index[slot] != kNever) profile_.slots[slot].offset = lifetimes[index[slot]].offset;
      }
      for (size_t i = 0; i < calls.size(); ++i)
        calls[i].workspace_offset = lifetimes[num_places + i].offset;
    }
  }

  const Graph& graph_;
  const backend::DeviceInfo& device_;
  std::span<const Kernel* const> kernels_;
  const CompileOptions& options_;
  Profile profile_;
  std::vector<SlotId> slot_of_;
  std::vector<ValueId> view_of_;
  std::vector<bool> pitched_ok_;
  std::map<ValueId, const Node*> view_node_;
};

}  // namespace

runtime::Profile compile_profile(graph::Graph graph, std::map<std::string, int64_t> shape,
                                 const backend::DeviceInfo& device,
                                 std::span<const backend::Kernel* const> kernels,
                                 const CompileOptions& options) {
  CompileOptions with_kernels = options;
  with_kernels.has_kernel = [&](const graph::OpDesc& desc) {
    return std::ranges::any_of(kernels, [&](const Kernel* kernel) {
      return kernel->op == kind_of(desc.attrs) && !kernel->name.ends_with(".reference") &&
             !is_disabled(options, kernel->name) && supports(*kernel, desc, device).ok;
    });
  };
  run_passes(graph, with_kernels);
  return ProfileCompiler(graph, device, kernels, options).run(std::move(shape));
}

bool names_kernel(std::string_view pattern, std::string_view kernel) {
  if (pattern.ends_with('*')) return kernel.starts_with(pattern.substr(0, pattern.size() - 1));
  return kernel == pattern;
}

}  // namespace halftone::compile
