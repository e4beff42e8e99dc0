// The meaning of a plan: whatever passes here cannot make a kernel read or write outside its
// memory.
#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/checked.h"
#include "runtime/plan_file.h"

namespace halftone::runtime {
namespace {

constexpr uint64_t kAlignment = 256;  // what kernels count on

bool is_constant(Storage storage) {
  return storage == Storage::kWeight || storage == Storage::kLiteral ||
         storage == Storage::kConstant;
}

class ProfileCheck {
 public:
  ProfileCheck(const Profile& profile, const std::string& origin)
      : profile_(profile), origin_(origin), stage_of_(profile.slots.size(), kUndefined) {}

  void run() {
    for (SlotId id = 0; id < profile_.slots.size(); ++id) check_slot(id);
    check_bindings(profile_.inputs, "input");
    check_bindings(profile_.outputs, "output");
    for (const Binding& input : profile_.inputs) {
      if (slot(input.slot).storage != Storage::kPersistent) {
        fail(fmt::format("input '{}' has no memory of its own", input.name));
      }
      stage_of_[input.slot] = 0;
    }
    for (SlotId id = 0; id < profile_.slots.size(); ++id) {
      const Storage storage = profile_.slots[id].storage;
      if (storage == Storage::kWeight || storage == Storage::kLiteral) stage_of_[id] = 0;
    }
    for (size_t stage = 0; stage < profile_.stages.size(); ++stage) check_stage(stage);
    for (const Binding& output : profile_.outputs) {
      const SlotId base = base_of(output.slot);
      const Slot& s = slot(output.slot);
      if (slot(base).storage != Storage::kPersistent || stage_of_[base] == kUndefined ||
          s.row_pitch != s.type.shape.row_size()) {
        fail(fmt::format("output '{}' is not kept after the run", output.name));
      }
    }
    check_persistent();
  }

 private:
  static constexpr size_t kUndefined = std::numeric_limits<size_t>::max();

  [[noreturn]] void fail(const std::string& text) const {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: {}; run 'halftone build' again", origin_, text));
  }

  [[nodiscard]] const Slot& slot(SlotId id) const {
    if (id >= profile_.slots.size()) {
      fail(fmt::format("slot {} of {} does not exist", id, profile_.slots.size()));
    }
    return profile_.slots[id];
  }

  [[nodiscard]] SlotId base_of(SlotId id) const {
    return slot(id).storage == Storage::kView ? slot(id).base : id;
  }

  void need_inside(uint64_t offset, uint64_t size, uint64_t region, const std::string& name) const {
    const auto end = checked_add(offset, size);
    if (!end || *end > region) {
      fail(fmt::format("'{}': {} bytes at {} lie outside {} bytes", name, size, offset, region));
    }
  }

  void check_slot(SlotId id) const {
    const Slot& s = slot(id);
    const int64_t row = s.type.shape.row_size();
    if (s.storage == Storage::kView) {
      check_view(s);
      return;
    }
    if (s.row_pitch != row || s.base != kNoSlot)
      fail(fmt::format("slot '{}' is malformed", s.name));
    if ((s.storage == Storage::kWeight) == s.weight.empty()) {
      fail(fmt::format("slot '{}' names the weight '{}'", s.name, s.weight));
    }
    if ((s.storage == Storage::kLiteral) != (s.literal != nullptr) ||
        (s.literal && !(s.literal->type() == s.type))) {
      fail(fmt::format("slot '{}' has another literal than its type", s.name));
    }
    if (is_constant(s.storage) != (s.rate == graph::Rate::kLoad)) {
      fail(fmt::format("slot '{}' has rate {} and storage {}", s.name, graph::to_string(s.rate),
                       to_string(s.storage)));
    }
    if (is_constant(s.storage)) return;
    const uint64_t region =
        s.storage == Storage::kArena ? profile_.arena_bytes : profile_.persistent_bytes;
    if (s.offset % kAlignment != 0) fail(fmt::format("slot '{}' is not aligned", s.name));
    need_inside(s.offset, s.type.num_bytes(), region, s.name);
  }

  void check_view(const Slot& s) const {
    const Slot& base = slot(s.base);
    const bool base_ok =
        (base.storage == Storage::kArena || base.storage == Storage::kPersistent) &&
        base.type.dtype == s.type.dtype;
    const int64_t row = s.type.shape.row_size();
    if (!base_ok || s.row_pitch < row || s.offset % size_of(s.type.dtype) != 0 || s.literal ||
        !s.weight.empty()) {
      fail(fmt::format("view '{}' is malformed", s.name));
    }
    if (s.type.shape.num_elements() == 0) return;
    const auto rows = static_cast<uint64_t>(s.type.shape.num_rows());
    const auto span = checked_mul(rows - 1, static_cast<uint64_t>(s.row_pitch));
    const auto elements = span ? checked_add(*span, static_cast<uint64_t>(row)) : span;
    const auto bytes = elements ? checked_mul(*elements, size_of(s.type.dtype)) : elements;
    if (!bytes) fail(fmt::format("view '{}' is too large", s.name));
    need_inside(s.offset, *bytes, base.type.num_bytes(), s.name);
  }

  void check_bindings(const std::vector<Binding>& bindings, std::string_view what) const {
    std::set<std::string> names;
    for (const Binding& binding : bindings) {
      static_cast<void>(slot(binding.slot));
      if (binding.name.empty() || !names.insert(binding.name).second) {
        fail(fmt::format("{} name '{}' is empty or repeated", what, binding.name));
      }
    }
  }

  void check_operand(const Call& call, const CallOperand& operand, size_t stage) const {
    const Slot& s = slot(operand.slot);
    const SlotId base = base_of(operand.slot);
    const bool lost = slot(base).storage == Storage::kArena && stage_of_[base] != stage;
    if (stage_of_[base] == kUndefined || lost) {
      fail(fmt::format("{}: reads '{}' before it is written", call.name, s.name));
    }
    if (stage == 0 && !is_constant(s.storage)) {
      fail(fmt::format("{}: reads '{}' while loading", call.name, s.name));
    }
    if (s.row_pitch != s.type.shape.row_size() && !takes_pitched_rows(call.attrs, operand.role)) {
      fail(fmt::format("{}: cannot read the pitched '{}'", call.name, s.name));
    }
  }

  void check_types(const Call& call) const {
    std::vector<graph::TypedOperand> inputs;
    for (const CallOperand& operand : call.inputs) {
      inputs.push_back({operand.role, slot(operand.slot).type});
    }
    std::vector<TensorType> wanted;
    try {
      wanted = graph::infer_types(call.attrs, inputs);
    } catch (const Error& error) {
      fail(fmt::format("{}: {}", call.name, error.what()));
    }
    bool equal = wanted.size() == call.outputs.size() && !wanted.empty();
    for (size_t i = 0; equal && i < wanted.size(); ++i) {
      equal = wanted[i] == slot(call.outputs[i]).type;
    }
    if (!equal) fail(fmt::format("{}: its outputs have other types than its op makes", call.name));
  }

  void check_call(const Call& call, size_t stage) {
    bool packable = false;
    for (const CallOperand& operand : call.inputs) {
      check_operand(call, operand, stage);
      packable |= operand.role == graph::Role::kWeight && is_constant(slot(operand.slot).storage);
    }
    if (call.packs_weight && (!packable || stage == 0)) {
      fail(fmt::format("{}: packs a weight that it does not have", call.name));
    }
    check_types(call);
    for (const SlotId id : call.outputs) {
      const Storage storage = slot(id).storage;
      const bool fits = stage == 0 ? storage == Storage::kConstant
                                   : storage == Storage::kArena || storage == Storage::kPersistent;
      if (!fits || stage_of_[id] != kUndefined) {
        fail(fmt::format("{}: may not write '{}'", call.name, slot(id).name));
      }
      stage_of_[id] = stage;
    }
    if (stage == 0) return;
    if (call.workspace_offset % kAlignment != 0) {
      fail(fmt::format("{}: its workspace is not aligned", call.name));
    }
    need_inside(call.workspace_offset, call.workspace_bytes, profile_.arena_bytes, call.name);
  }

  void check_stage(size_t stage) {
    for (const Call& call : profile_.stages[stage]) check_call(call, stage);
    if (stage > 0) check_arena(profile_.stages[stage]);
  }

  struct Resident {
    uint64_t offset, size;
    size_t last;
    std::string_view name;
    SlotId slot;  // kNoSlot: a workspace
  };

  // Whether a result takes the place of the call's first operand, which ends here.
  [[nodiscard]] bool replaces_operand(const Call& call, const Slot& to, SlotId base,
                                      bool ends) const {
    const Slot& from = slot(base);
    return ends && from.storage == Storage::kArena && from.offset == to.offset &&
           slot(call.inputs.front().slot).type == to.type &&
           from.type.num_bytes() == to.type.num_bytes() &&
           std::ranges::count_if(call.inputs, [&](const CallOperand& operand) {
             return base_of(operand.slot) == base;
           }) == 1;
  }

  // Nothing that is alive at the same time shares a byte, but for a result in its operand's place
  // (whether the kernel allows that, the executor checks).
  void check_arena(const std::vector<Call>& calls) const {
    std::vector<size_t> last(profile_.slots.size(), 0);
    for (size_t i = 0; i < calls.size(); ++i) {
      for (const CallOperand& operand : calls[i].inputs) last[base_of(operand.slot)] = i;
      for (const SlotId id : calls[i].outputs) last[id] = i;
    }
    std::vector<Resident> alive;
    for (size_t i = 0; i < calls.size(); ++i) {
      std::erase_if(alive, [&](const Resident& resident) { return resident.last < i; });
      const Call& call = calls[i];
      for (const SlotId id : call.outputs) {
        const Slot& s = slot(id);
        if (s.storage != Storage::kArena) continue;
        const SlotId base = call.inputs.empty() ? kNoSlot : base_of(call.inputs.front().slot);
        if (id == call.outputs.front() && base != kNoSlot &&
            replaces_operand(call, s, base, last[base] == i)) {
          std::erase_if(alive, [&](const Resident& resident) { return resident.slot == base; });
        }
        enter(alive, {s.offset, s.type.num_bytes(), last[id], s.name, id});
      }
      enter(alive, {call.workspace_offset, call.workspace_bytes, i, call.name, kNoSlot});
    }
  }

  void enter(std::vector<Resident>& alive, const Resident& one) const {
    if (one.size == 0) return;
    for (const Resident& other : alive) {
      if (one.offset < other.offset + other.size && other.offset < one.offset + one.size) {
        fail(fmt::format("'{}' and '{}' share memory while both are alive", one.name, other.name));
      }
    }
    alive.push_back(one);
  }

  void check_persistent() const {
    std::vector<const Slot*> slots;
    for (const Slot& s : profile_.slots) {
      if (s.storage == Storage::kPersistent && s.type.num_bytes() > 0) slots.push_back(&s);
    }
    std::ranges::sort(slots, {}, [](const Slot* s) { return s->offset; });
    for (size_t i = 1; i < slots.size(); ++i) {
      if (slots[i - 1]->offset + slots[i - 1]->type.num_bytes() > slots[i]->offset) {
        fail(fmt::format("'{}' and '{}' share memory", slots[i - 1]->name, slots[i]->name));
      }
    }
  }

  const Profile& profile_;
  const std::string& origin_;
  std::vector<size_t> stage_of_;  // in which a slot is written
};

}  // namespace

void check_plan(const Plan& plan, const std::string& origin) {
  if (plan.component.empty() || plan.fingerprint.entries.empty() || plan.profiles.empty()) {
    throw Error(
        Errc::kCorruptFile,
        fmt::format("{}: has no component, fingerprint or profile; run 'halftone build' again",
                    origin));
  }
  for (const Profile& profile : plan.profiles) ProfileCheck(profile, origin).run();
}

}  // namespace halftone::runtime
