#include "runtime/executor.h"

#include <algorithm>
#include <list>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "graph/cost.h"
#include "runtime/constant_loader.h"

namespace halftone::runtime {

using backend::Buffer;
using graph::Rate;

namespace {

constexpr uint64_t kArenaAlignment = 256;  // what kernels count on

struct Prepared {
  std::unique_ptr<backend::Launch> launch;
  const Call* call;
  uint64_t runs = 0;
  double total_ms = 0;
  double flop = 0;
  std::vector<Tensor> host_constants{};  // by input, for the observer
  bool observed = false;
};

// Calls that are enqueued one after another and recorded together.
struct Part {
  std::vector<Prepared> calls{};
  std::unique_ptr<backend::Recording> recording{};
  bool has_run = false;
};

// Host copies of operands.
class HostCopies {
 public:
  explicit HostCopies(backend::Device& device) : device_(device) {}

  void add(const TensorView& view) {
    const size_t element = size_of(view.type.dtype);
    const auto rows = static_cast<size_t>(view.type.shape.num_rows());
    const auto pitch = static_cast<size_t>(view.row_pitch) * element;
    const size_t row = static_cast<size_t>(view.type.shape.row_size()) * element;
    std::vector<std::byte>& bytes = bytes_.emplace_back(rows == 0 ? 0 : (rows - 1) * pitch + row);
    device_.download(bytes.data(), view.data, bytes.size());
    views_.push_back({view.type, bytes.data(), view.row_pitch});
  }
  void add_host(Tensor& tensor) { views_.push_back(tensor.view()); }
  [[nodiscard]] std::span<const TensorView> views() const { return views_; }

 private:
  backend::Device& device_;
  std::list<std::vector<std::byte>> bytes_;
  std::vector<TensorView> views_;
};

}  // namespace

// What the schedule stage has of its own where it runs beside the steps: a stream, an arena, and
// the place of its results.
struct ScheduleSide {
  std::unique_ptr<backend::Stream> stream;
  std::byte* arena = nullptr;
  std::unique_ptr<Buffer> own_arena, results;  // own_arena: where the executor's has no room
  int pending_row = -1;  // enqueued, and not yet waited for by the common stream
};

struct Executor::Impl {
  std::shared_ptr<const Plan> plan;
  const Profile& profile;
  backend::Device& device;
  ExecutorOptions options;
  std::unique_ptr<backend::Stream> stream;
  std::unique_ptr<backend::Stream> side;  // null: calls run on `stream`
  std::shared_ptr<Buffer> persistent, arena;
  std::vector<std::shared_ptr<Buffer>> constants;  // keeps what the launches point at
  uint64_t constant_bytes = 0;
  std::array<Part, 4> stages;
  Part prompt_rest;           // calls of stage kPrompt that are enqueued behind a schedule row
  bool prompt_waits = false;  // prompt_rest is not enqueued yet
  bool runs_beside = false;   // started on `side`, and not yet waited for by the common stream
  // Made per schedule row, read per step: one piece of the persistent region.
  uint64_t crossing_begin = 0, crossing_end = 0;
  std::vector<std::unique_ptr<Buffer>> rows;
  std::unique_ptr<ScheduleSide> schedule_side;  // null: in turn with the steps

  Impl(std::shared_ptr<const Plan> p, size_t index, backend::Device& d, ExecutorOptions o)
      : plan(std::move(p)), profile(plan->profiles.at(index)), device(d), options(std::move(o)) {}

  ~Impl() {
    // What is freed now may still be used by the side streams after an exception.
    try {
      join_schedule();
      join_side();
    } catch (const Error&) {  // the device is lost
    }
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] const Slot& base_of(SlotId id) const {
    const Slot& slot = profile.slots[id];
    return slot.storage == Storage::kView ? profile.slots[slot.base] : slot;
  }

  [[nodiscard]] std::byte* arena_of(Rate stage) const {
    if (schedule_side && stage == Rate::kSchedule) return schedule_side->arena;
    return static_cast<std::byte*>(arena->data()) + options.arena_offset;
  }

  // Where the calls of a stage find a slot.
  [[nodiscard]] std::byte* address(SlotId id, Rate stage = Rate::kStep) const {
    const Slot& slot = profile.slots[id];
    const Slot& base = base_of(id);
    check_internal(base.storage == Storage::kPersistent || base.storage == Storage::kArena,
                   "slot has no run-time address");
    const uint64_t offset = base.offset + (slot.storage == Storage::kView ? slot.offset : 0);
    const bool is_beside = schedule_side != nullptr && stage == Rate::kSchedule;
    const bool is_persistent = base.storage == Storage::kPersistent;
    if (is_beside && is_persistent && offset >= crossing_begin && offset < crossing_end) {
      return static_cast<std::byte*>(schedule_side->results->data()) + (offset - crossing_begin);
    }
    if (is_persistent) return static_cast<std::byte*>(persistent->data()) + offset;
    return arena_of(stage) + offset;
  }

  [[nodiscard]] TensorView view(SlotId id, Rate stage = Rate::kStep) const {
    return {profile.slots[id].type, address(id, stage), profile.slots[id].row_pitch};
  }

  void load(const WeightSource& weights);
  Prepared prepare(const Call& call, Rate stage, ConstantLoader& loader);
  void find_crossing();
  // Lets the schedule stage run beside the steps where the device can.
  void separate_schedule();
  // By call of stage kPrompt: whether it may wait until a schedule row is enqueued.
  [[nodiscard]] std::vector<bool> find_prompt_rest() const;
  // Enqueues what waits of stage kPrompt.
  void finish_prompt();
  // The common stream waits for the row that is pending.
  void join_schedule();
  // The common stream waits for what was started beside it.
  void join_side();
  void run(Part& part);
  // What run() does, on `on`: the stream or the side stream.
  void enqueue(Part& part, backend::Stream& on);
  Part& part_of(Rate stage) { return stages[static_cast<size_t>(stage)]; }
  static void enqueue_all(const std::vector<Prepared>& calls, backend::Stream& on);
  void run_timed(std::vector<Prepared>& calls);
  void run_observed(std::vector<Prepared>& calls);
  // Copies what crosses from schedule to step to (save) or from a kept row.
  void move_row(Buffer& row, bool save);
  // Where an input may be written from now on, in the common order.
  [[nodiscard]] std::byte* place_of_input(SlotId slot);
  [[nodiscard]] uint64_t row_bytes() const { return crossing_end - crossing_begin; }

  [[nodiscard]] SlotId find(const std::vector<Binding>& bindings, std::string_view name,
                            std::string_view what) const {
    for (const Binding& binding : bindings) {
      if (binding.name == name) return binding.slot;
    }
    std::string names;
    for (const Binding& binding : bindings) names += (names.empty() ? "" : ", ") + binding.name;
    throw Error(Errc::kInvalidArgument, fmt::format("plan '{}' has no {} '{}'; it has: {}",
                                                    plan->component, what, name, names));
  }
};

void Executor::Impl::load(const WeightSource& weights) {
  ConstantLoader loader(profile, device, *stream, weights, *options.constants,
                        options.constant_cache.get());
  int total = 0;
  for (size_t stage = 1; stage < stages.size(); ++stage) {
    total += static_cast<int>(profile.stages[stage].size());
  }
  int done = 0;
  const std::vector<bool> waits = find_prompt_rest();
  for (size_t stage = 1; stage < stages.size(); ++stage) {
    const bool is_prompt = stage == static_cast<size_t>(Rate::kPrompt);
    for (size_t i = 0; i < profile.stages[stage].size(); ++i) {
      const Call& call = profile.stages[stage][i];
      if (options.progress && !options.progress({"load", done, total, 0})) {
        throw Error(Errc::kCancelled, "cancelled while loading weights");
      }
      Part& part = is_prompt && waits[i] ? prompt_rest : stages[stage];
      part.calls.push_back(prepare(call, static_cast<Rate>(stage), loader));
      ++done;
    }
  }
  if (options.constant_cache) options.constant_cache->commit();
  options.constant_cache.reset();
  if (options.progress) options.progress({"load", total, total, 0});
}

Prepared Executor::Impl::prepare(const Call& call, Rate stage, ConstantLoader& loader) {
  const CallTypes types(profile, call);
  const graph::OpDesc desc = types.desc(call);
  const backend::Kernel& kernel = kernel_of(call, desc, device);
  std::vector<TensorView> inputs;
  uint32_t constant_inputs = 0;
  std::vector<Tensor> host_constants(options.observer ? call.inputs.size() : 0);
  for (const CallOperand& operand : call.inputs) {
    const Slot& slot = profile.slots[operand.slot];
    const bool is_constant = slot.storage == Storage::kWeight ||
                             slot.storage == Storage::kLiteral ||
                             slot.storage == Storage::kConstant;
    if (!is_constant) {
      inputs.push_back(view(operand.slot, stage));
      continue;
    }
    const bool pack = call.packs_weight && operand.role == graph::Role::kWeight;
    constants.push_back(pack ? loader.packed(operand.slot, kernel, desc, call.config)
                             : loader.dense(operand.slot));
    if (inputs.size() < 32) constant_inputs |= uint32_t{1} << inputs.size();
    inputs.emplace_back(slot.type, constants.back()->data());
    if (!options.observer) continue;
    Tensor& host = host_constants[inputs.size() - 1] = Tensor(slot.type);
    const auto as_it_is = pack ? loader.dense(operand.slot) : constants.back();
    device.download(host.data(), as_it_is->data(), slot.type.num_bytes());
  }
  std::vector<TensorView> outputs;
  for (const SlotId slot : call.outputs) outputs.push_back(view(slot, stage));
  if (!kernel.in_place && !inputs.empty() && outputs[0].type.num_bytes() > 0 &&
      inputs[0].data == outputs[0].data) {
    throw Error(Errc::kIncompatiblePlan,
                fmt::format("{}: kernel {} cannot write over what it reads; run 'halftone build' "
                            "again",
                            call.name, kernel.name));
  }
  void* workspace = arena_of(stage) + call.workspace_offset;
  return {kernel.prepare(desc, device.info(), call.config,
                         {inputs, outputs, workspace, constant_inputs}),
          &call,
          0,
          0,
          graph::flop_of(desc),
          std::move(host_constants)};
}

std::byte* Executor::Impl::place_of_input(SlotId slot) {
  const Rate rate = profile.slots[slot].rate;
  // What was started and not waited for may still read what earlier stages read.
  if (rate == Rate::kPrompt) finish_prompt();
  if (rate != Rate::kStep) join_schedule();
  join_side();
  return address(slot);
}

void Executor::Impl::find_crossing() {
  bool found = false;
  for (const Call& call : profile.stages[static_cast<size_t>(Rate::kStep)]) {
    for (const CallOperand& operand : call.inputs) {
      const Slot& slot = profile.slots[operand.slot];
      const Slot& base = slot.storage == Storage::kView ? profile.slots[slot.base] : slot;
      if (base.rate != Rate::kSchedule) continue;
      const uint64_t end = base.offset + base.type.num_bytes();
      crossing_begin = found ? std::min(crossing_begin, base.offset) : base.offset;
      crossing_end = std::max(crossing_end, end);
      found = true;
    }
  }
}

void Executor::Impl::separate_schedule() {
  if (row_bytes() == 0 || options.profile || options.observer) return;
  const auto crosses = [&](const Binding& binding) {
    const Slot& base = base_of(binding.slot);
    return base.offset >= crossing_begin && base.offset < crossing_end &&
           base.rate == Rate::kSchedule;
  };
  if (std::ranges::any_of(profile.inputs, crosses) ||
      std::ranges::any_of(profile.outputs, crosses)) {
    return;
  }
  auto own = std::make_unique<ScheduleSide>();
  own->stream = device.create_side_stream();
  if (!own->stream) return;
  uint64_t bytes = 0;
  const auto touch = [&](SlotId id) {
    const Slot& base = base_of(id);
    if (base.storage == Storage::kArena) {
      bytes = std::max(bytes, base.offset + base.type.num_bytes());
    }
  };
  for (const Call& call : profile.stages[static_cast<size_t>(Rate::kSchedule)]) {
    for (const CallOperand& operand : call.inputs) touch(operand.slot);
    for (const SlotId slot : call.outputs) touch(slot);
    bytes = std::max(bytes, call.workspace_offset + call.workspace_bytes);
  }
  const uint64_t end = options.arena_offset + profile.arena_bytes;
  const uint64_t behind = (end + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  if (behind + bytes > arena->size()) own->own_arena = device.allocate(bytes);
  own->arena = own->own_arena ? static_cast<std::byte*>(own->own_arena->data())
                              : static_cast<std::byte*>(arena->data()) + behind;
  own->results = device.allocate(row_bytes());
  schedule_side = std::move(own);
}

// What the schedule reads runs before all the rest, which keeps its order. The arena is planned for
// the order of the plan: no place in it may be written before the rest and read by it.
std::vector<bool> Executor::Impl::find_prompt_rest() const {
  const std::vector<Call>& calls = profile.stages[static_cast<size_t>(Rate::kPrompt)];
  std::vector<bool> waits(calls.size(), false);
  if (!schedule_side) return waits;
  std::vector<bool> wanted(profile.slots.size(), false);  // by the slot under a view
  const auto root = [&](SlotId id) {
    const Slot& slot = profile.slots[id];
    return slot.storage == Storage::kView ? slot.base : id;
  };
  const auto want_inputs = [&](const Call& call) {
    for (const CallOperand& operand : call.inputs) wanted[root(operand.slot)] = true;
  };
  for (const Call& call : profile.stages[static_cast<size_t>(Rate::kSchedule)]) want_inputs(call);
  for (size_t i = calls.size(); i-- > 0;) {
    waits[i] = std::ranges::none_of(calls[i].outputs, [&](SlotId id) { return wanted[root(id)]; });
    if (!waits[i]) want_inputs(calls[i]);
  }
  std::vector<bool> made_first(profile.slots.size(), false);
  for (size_t i = 0; i < calls.size(); ++i) {
    if (waits[i]) continue;
    for (const SlotId id : calls[i].outputs) made_first[root(id)] = true;
  }
  const auto crosses = [&](const CallOperand& operand) {
    return made_first[root(operand.slot)] && base_of(operand.slot).storage == Storage::kArena;
  };
  for (size_t i = 0; i < calls.size(); ++i) {
    if (waits[i] && std::ranges::any_of(calls[i].inputs, crosses)) {
      waits.assign(calls.size(), false);
    }
  }
  return waits;
}

void Executor::Impl::finish_prompt() {
  if (!std::exchange(prompt_waits, false)) return;
  run(prompt_rest);
}

void Executor::Impl::join_schedule() {
  if (!schedule_side || schedule_side->pending_row < 0) return;
  stream->wait_for(*schedule_side->stream);
  schedule_side->pending_row = -1;
}

void Executor::Impl::join_side() {
  if (std::exchange(runs_beside, false)) stream->wait_for(*side);
}

void Executor::Impl::run(Part& part) {
  if (!side) {
    enqueue(part, *stream);
    return;
  }
  side->wait_for(*stream);
  enqueue(part, *side);
  stream->wait_for(*side);
}

void Executor::Impl::enqueue(Part& part, backend::Stream& on) {
  if (options.observer) {
    run_observed(part.calls);
    return;
  }
  if (options.profile) {
    run_timed(part.calls);
    return;
  }
  if (part.recording) {
    part.recording->replay(on);
    return;
  }
  // The first run loads code and fills caches, which cannot be recorded.
  const bool record = options.record && part.has_run && on.begin_recording();
  enqueue_all(part.calls, on);
  if (record) {
    part.recording = on.end_recording();
    part.recording->replay(on);
  }
  part.has_run = true;
}

void Executor::Impl::enqueue_all(const std::vector<Prepared>& calls, backend::Stream& on) {
  for (const Prepared& prepared : calls) {
    on.begin_range(prepared.call->name.c_str());
    prepared.launch->enqueue(on);
    on.end_range();
  }
}

void Executor::Impl::run_timed(std::vector<Prepared>& calls) {
  stream->mark(0);
  for (size_t i = 0; i < calls.size(); ++i) {
    stream->begin_range(calls[i].call->name.c_str());
    calls[i].launch->enqueue(*stream);
    stream->end_range();
    stream->mark(i + 1);
  }
  stream->synchronize();
  for (size_t i = 0; i < calls.size(); ++i) {
    calls[i].total_ms += stream->ms_between(i, i + 1);
    ++calls[i].runs;
  }
}

void Executor::Impl::run_observed(std::vector<Prepared>& calls) {
  for (Prepared& prepared : calls) {
    if (prepared.observed) {
      prepared.launch->enqueue(*stream);
      continue;
    }
    const Call& call = *prepared.call;
    stream->synchronize();
    HostCopies inputs(device);
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      Tensor& constant = prepared.host_constants[i];
      if (constant.data() != nullptr) {
        inputs.add_host(constant);
      } else {
        inputs.add(view(call.inputs[i].slot));
      }
    }
    prepared.launch->enqueue(*stream);
    stream->synchronize();
    HostCopies outputs(device);
    for (const SlotId slot : call.outputs) outputs.add(view(slot));
    const CallTypes types(profile, call);
    options.observer({call, types.desc(call), inputs.views(), outputs.views()});
    prepared.observed = true;
    prepared.host_constants.clear();
  }
}

void Executor::Impl::move_row(Buffer& row, bool save) {
  void* region = static_cast<std::byte*>(persistent->data()) + crossing_begin;
  void* to = save ? row.data() : region;
  const void* from = save ? region : row.data();
  device.copy(to, from, row_bytes(), *stream);
}

Executor::Executor(std::shared_ptr<const Plan> plan, size_t profile, backend::Device& device,
                   const WeightSource& weights, ExecutorOptions options)
    : impl_(std::make_unique<Impl>(std::move(plan), profile, device, std::move(options))) {
  Impl& impl = *impl_;
  if (!impl.options.constants) impl.options.constants = std::make_shared<ConstantStore>();
  impl.stream = device.create_stream();
  if (impl.options.beside && !impl.options.profile && !impl.options.observer) {
    impl.side = device.create_side_stream();
  }
  impl.persistent = device.allocate(impl.profile.persistent_bytes);
  impl.arena = impl.options.arena;
  if (!impl.arena) {
    impl.options.arena_offset = 0;
    impl.arena = device.allocate(impl.profile.arena_bytes);
  }
  check_internal(impl.options.arena_offset % kArenaAlignment == 0 &&
                     impl.arena->size() >= impl.options.arena_offset + impl.profile.arena_bytes,
                 "the shared arena is too small");
  impl.find_crossing();
  impl.separate_schedule();
  impl.load(weights);
  for (const auto& constant : impl.constants) impl.constant_bytes += constant->size();
}

Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;

void Executor::set_input(std::string_view name, const Tensor& value) {
  const SlotId slot = impl_->find(impl_->profile.inputs, name, "input");
  const TensorType& wanted = impl_->profile.slots[slot].type;
  if (value.type() != wanted) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("plan '{}': input '{}' is {}, wanted {}", impl_->plan->component, name,
                            to_string(value.type()), to_string(wanted)));
  }
  impl_->device.upload(impl_->place_of_input(slot), value.data(), wanted.num_bytes());
}

void* Executor::input_data(std::string_view name) {
  return impl_->place_of_input(impl_->find(impl_->profile.inputs, name, "input"));
}

Tensor Executor::output(std::string_view name) const {
  const SlotId slot = impl_->find(impl_->profile.outputs, name, "output");
  Tensor result(impl_->profile.slots[slot].type);
  impl_->finish_prompt();
  impl_->join_side();
  impl_->device.download(result.data(), impl_->address(slot), result.type().num_bytes());
  return result;
}

void Executor::read_output(std::string_view name, std::span<std::byte> to) const {
  const SlotId slot = impl_->find(impl_->profile.outputs, name, "output");
  check_internal(to.size() <= impl_->profile.slots[slot].type.num_bytes(),
                 "more is read than the output holds");
  impl_->finish_prompt();
  impl_->join_side();
  impl_->device.download(to.data(), impl_->address(slot), to.size());
}

const TensorType& Executor::input_type(std::string_view name) const {
  return impl_->profile.slots[impl_->find(impl_->profile.inputs, name, "input")].type;
}

const TensorType& Executor::output_type(std::string_view name) const {
  return impl_->profile.slots[impl_->find(impl_->profile.outputs, name, "output")].type;
}

void Executor::copy_output(std::string_view name, int64_t row, void* to, size_t pitch) const {
  Impl& impl = *impl_;
  const SlotId slot = impl.find(impl.profile.outputs, name, "output");
  const TensorType& type = impl.profile.slots[slot].type;
  const Shape& shape = type.shape;
  check_internal(shape.rank() > 1 && row >= 0 && row < shape[0], "an output has no such row");
  const size_t line = static_cast<size_t>(shape.row_size()) * size_of(type.dtype);
  const auto num_lines = static_cast<size_t>(shape.num_rows() / shape[0]);
  check_internal(pitch >= line, "lines of an output would overlap");
  impl.finish_prompt();
  impl.join_side();
  const std::byte* from = impl.address(slot) + static_cast<size_t>(row) * num_lines * line;
  if (pitch == line) {
    impl.device.copy(to, from, num_lines * line, *impl.stream);
  } else {
    impl.device.copy_rows(to, pitch, from, line, line, num_lines, *impl.stream);
  }
}

bool Executor::has_input(std::string_view name) const {
  return std::ranges::any_of(impl_->profile.inputs,
                             [&](const Binding& binding) { return binding.name == name; });
}

void Executor::feed_back(std::string_view output, std::string_view input) {
  const SlotId from = impl_->find(impl_->profile.outputs, output, "output");
  const SlotId to = impl_->find(impl_->profile.inputs, input, "input");
  const TensorType& type = impl_->profile.slots[from].type;
  check_internal(type == impl_->profile.slots[to].type, "feed_back wants equal types");
  impl_->finish_prompt();
  std::byte* place = impl_->place_of_input(to);
  impl_->device.copy(place, impl_->address(from), type.num_bytes(), *impl_->stream);
}

void Executor::run_prompt() {
  impl_->finish_prompt();
  impl_->run(impl_->part_of(Rate::kPrompt));
  impl_->prompt_waits = !impl_->prompt_rest.calls.empty();
}

void Executor::run_schedule(int row) {
  check_internal(row >= 0, "schedule rows begin at 0");
  Impl& impl = *impl_;
  const auto index = static_cast<size_t>(row);
  if (index >= impl.rows.size()) impl.rows.resize(index + 1);
  if (!impl.rows[index]) impl.rows[index] = impl.device.allocate(impl.row_bytes());
  if (!impl.schedule_side) {
    impl.run(impl.part_of(Rate::kSchedule));
    impl.move_row(*impl.rows[index], true);
    return;
  }
  ScheduleSide& side = *impl.schedule_side;
  side.stream->wait_for(*impl.stream);
  impl.enqueue(impl.part_of(Rate::kSchedule), *side.stream);
  impl.device.copy(impl.rows[index]->data(), side.results->data(), impl.row_bytes(), *side.stream);
  side.pending_row = row;
  impl.finish_prompt();
}

bool Executor::schedules_beside() const { return impl_->schedule_side != nullptr; }

void Executor::run_step(int row) {
  impl_->finish_prompt();
  if (impl_->row_bytes() > 0) {
    const auto index = static_cast<size_t>(row);
    check_internal(row >= 0 && index < impl_->rows.size() && impl_->rows[index] != nullptr,
                   "run_schedule was not called for this row");
    if (impl_->schedule_side && impl_->schedule_side->pending_row == row) impl_->join_schedule();
    impl_->move_row(*impl_->rows[index], false);
  }
  impl_->run(impl_->part_of(Rate::kStep));
}

void Executor::start_together(std::span<Executor* const> executors) {
  // All forks lie before the work of the common stream.
  for (const Executor* executor : executors) {
    Impl& impl = *executor->impl_;
    if (!impl.side) continue;
    check_internal(impl.row_bytes() == 0, "what has a schedule runs alone");
    impl.side->wait_for(*impl.stream);
    impl.enqueue(impl.part_of(Rate::kStep), *impl.side);
    impl.runs_beside = true;
  }
  for (Executor* executor : executors) {
    if (!executor->is_beside()) executor->run_step();
  }
}

void Executor::join() {
  impl_->finish_prompt();
  impl_->join_schedule();
  impl_->join_side();
}

bool Executor::is_beside() const { return impl_->side != nullptr; }

void Executor::synchronize() {
  join();
  impl_->stream->synchronize();
}

const Profile& Executor::profile() const { return impl_->profile; }

MemoryReport Executor::memory() const {
  MemoryReport report;
  report.constant_bytes = impl_->constant_bytes;
  report.persistent_bytes = impl_->profile.persistent_bytes;
  report.arena_bytes = impl_->profile.arena_bytes;
  for (const auto& row : impl_->rows) report.schedule_bytes += row ? row->size() : 0;
  if (const auto& side = impl_->schedule_side) {
    report.schedule_bytes += side->results->size();
    if (side->own_arena) report.schedule_bytes += side->own_arena->size();
  }
  return report;
}

std::vector<CallTime> Executor::times() const {
  std::vector<CallTime> times;
  for (size_t stage = 1; stage < impl_->stages.size(); ++stage) {
    for (const Prepared& prepared : impl_->stages[stage].calls) {
      times.push_back({prepared.call->name, std::string(graph::name_of(prepared.call->attrs)),
                       prepared.call->kernel, static_cast<Rate>(stage), prepared.runs,
                       prepared.total_ms, prepared.flop});
    }
  }
  return times;
}

}  // namespace halftone::runtime
