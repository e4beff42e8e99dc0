// A stage is recorded in its second run and replayed from then on, where the device can record.
#include <cstring>
#include <utility>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "backend/forwarding_device.h"
#include "runtime/executor.h"

namespace halftone::runtime {
namespace {

struct Counts {
  int begun = 0, ended = 0, replayed = 0, joined = 0;
};

class CountingRecording final : public backend::Recording {
 public:
  explicit CountingRecording(Counts& counts) : counts_(counts) {}
  void replay(backend::Stream&) const override { ++counts_.replayed; }

 private:
  Counts& counts_;
};

// Says that it records; its launches run when they are enqueued all the same.
class RecordingStream final : public backend::Stream {
 public:
  explicit RecordingStream(Counts& counts) : counts_(counts) {}
  void synchronize() override {}
  bool begin_recording() override {
    ++counts_.begun;
    return true;
  }
  std::unique_ptr<backend::Recording> end_recording() override {
    ++counts_.ended;
    return std::make_unique<CountingRecording>(counts_);
  }
  void wait_for(backend::Stream& other) override {
    EXPECT_NE(&other, this);
    ++counts_.joined;
  }

 private:
  Counts& counts_;
};

class RecordingDevice final : public backend::ForwardingDevice {
 public:
  RecordingDevice()
      : ForwardingDevice(backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}})) {
  }
  [[nodiscard]] std::unique_ptr<backend::Stream> create_stream() override {
    return std::make_unique<RecordingStream>(counts);
  }
  [[nodiscard]] std::unique_ptr<backend::Stream> create_side_stream() override {
    return has_side ? std::make_unique<RecordingStream>(counts) : nullptr;
  }

  Counts counts;
  bool has_side = false;
};

class NoWeights final : public WeightSource {
 public:
  [[nodiscard]] bool contains(const std::string&) const override { return false; }
  [[nodiscard]] TensorType type(const std::string&) const override { return {}; }
  void read(const std::string&, const TensorType&, std::byte*) const override {}
};

// y = x + x in stage step.
std::shared_ptr<const Plan> doubling_plan() {
  Profile profile;
  Slot x;
  x.name = "x";
  x.type = {DType::kF32, {1, 4}};
  x.storage = Storage::kPersistent;
  x.rate = graph::Rate::kStep;
  x.row_pitch = 4;
  Slot y = x;
  y.name = "y";
  y.offset = 256;
  profile.slots = {x, y};
  Call call;
  call.name = "sum";
  call.kernel = "cpu.add.reference";
  call.attrs = graph::Add{};
  call.inputs = {{graph::Role::kX, 0}, {graph::Role::kX, 0}};
  call.outputs = {1};
  profile.stages[static_cast<size_t>(graph::Rate::kStep)] = {call};
  profile.inputs = {{"x", 0}};
  profile.outputs = {{"y", 1}};
  profile.persistent_bytes = 512;
  auto plan = std::make_shared<Plan>();
  plan->component = "m";
  plan->profiles = {profile};
  return plan;
}

void run_three_times(RecordingDevice& device, const ExecutorOptions& options) {
  Executor executor(doubling_plan(), 0, device, NoWeights(), options);
  executor.set_input("x", Tensor::from({1, 4}, std::array{1.0F, 2.0F, 3.0F, 4.0F}));
  for (int i = 0; i < 3; ++i) executor.run_step();
  executor.synchronize();
  EXPECT_EQ(executor.output("y").values<float>()[3], 8.0F);
}

TEST(Recording, SecondRunRecordsAndLaterOnesReplay) {
  RecordingDevice device;
  run_three_times(device, {});
  EXPECT_EQ(device.counts.begun, 1);
  EXPECT_EQ(device.counts.ended, 1);
  EXPECT_EQ(device.counts.replayed, 2);
}

TEST(Recording, IsLeftOutWhenSwitchedOffOrTimed) {
  RecordingDevice device;
  ExecutorOptions one_by_one;
  one_by_one.record = false;
  run_three_times(device, one_by_one);
  ExecutorOptions timed;
  timed.profile = true;
  run_three_times(device, timed);
  EXPECT_EQ(device.counts.begun, 0);
  EXPECT_EQ(device.counts.replayed, 0);
}

// Forked from the common stream and joined to it again, alone or together with others.
TEST(Beside, ForksAndJoins) {
  for (const bool has_side : {true, false}) {
    RecordingDevice device;
    device.has_side = has_side;
    ExecutorOptions beside;
    beside.beside = true;
    Executor first(doubling_plan(), 0, device, NoWeights(), beside);
    Executor second(doubling_plan(), 0, device, NoWeights(), {});
    EXPECT_EQ(first.is_beside(), has_side);
    EXPECT_FALSE(second.is_beside());
    first.set_input("x", Tensor::from({1, 4}, std::array{1.0F, 2.0F, 3.0F, 4.0F}));
    second.set_input("x", Tensor::from({1, 4}, std::array{5.0F, 6.0F, 7.0F, 8.0F}));
    const std::array executors{&first, &second};
    Executor::start_together(executors);
    EXPECT_EQ(device.counts.joined, has_side ? 1 : 0);
    first.join();
    first.join();  // nothing is left to wait for
    EXPECT_EQ(device.counts.joined, has_side ? 2 : 0);
    first.run_step();
    EXPECT_EQ(device.counts.joined, has_side ? 4 : 0);
    EXPECT_EQ(first.output("y").values<float>()[3], 8.0F);
    std::array<float, 2> start{};
    second.read_output("y", std::as_writable_bytes(std::span(start)));
    EXPECT_EQ(start, (std::array{10.0F, 12.0F}));
  }
}

// s = t + t in stage schedule, y = x + s in stage step.
std::shared_ptr<const Plan> scheduled_plan() {
  Plan plan = *doubling_plan();
  Profile& profile = plan.profiles[0];
  Slot t = profile.slots[0];
  t.name = "t";
  t.rate = graph::Rate::kSchedule;
  Slot s = t;
  s.name = "s";
  profile.slots.push_back(t);
  profile.slots.push_back(s);
  for (size_t i = 0; i < 4; ++i) profile.slots[i].offset = 256 * ((i + 2) % 4);
  Call call = profile.stages[static_cast<size_t>(graph::Rate::kStep)][0];
  profile.stages[static_cast<size_t>(graph::Rate::kStep)][0].inputs[1].slot = 3;
  call.inputs = {{graph::Role::kX, 2}, {graph::Role::kX, 2}};
  call.outputs = {3};
  profile.stages[static_cast<size_t>(graph::Rate::kSchedule)] = {call};
  profile.inputs.push_back({"t", 2});
  profile.persistent_bytes = 1024;
  return std::make_shared<Plan>(plan);
}

// Each row is scheduled before the step of the row before it runs.
TEST(Beside, RowsAreScheduledOneAhead) {
  for (const bool has_side : {true, false}) {
    RecordingDevice device;
    device.has_side = has_side;
    ExecutorOptions options;
    options.record = false;
    Executor executor(scheduled_plan(), 0, device, NoWeights(), options);
    EXPECT_EQ(executor.schedules_beside(), has_side);
    executor.set_input("x", Tensor::from({1, 4}, std::array{1.0F, 1.0F, 1.0F, 1.0F}));
    const auto schedule = [&](int row) {
      const auto value = static_cast<float>(row + 1);
      executor.set_input("t", Tensor::from({1, 4}, std::array{value, value, value, value}));
      executor.run_schedule(row);
    };
    schedule(0);
    for (int row = 0; row < 3; ++row) {
      if (row < 2) schedule(row + 1);
      executor.run_step(row);
      EXPECT_EQ(executor.output("y").values<float>()[0], 3.0F + 2.0F * static_cast<float>(row));
    }
    // A row waits for the common stream, and that for it before the next row, or its own step.
    EXPECT_EQ(device.counts.joined, has_side ? 6 : 0);
  }
}

// Of p in stage prompt: c = p + p, a = c + p for the schedule (s = t + a), and b, which steps read
// alone (y = x + s, z = y + b): b = p + p, or c + p.
std::shared_ptr<const Plan> prompted_plan(bool rest_reads_first) {
  using graph::Rate;
  Profile profile;
  const auto slot = [&](const char* name, Rate rate, bool in_arena = false) {
    Slot made;
    made.name = name;
    made.type = {DType::kF32, {1, 4}};
    made.storage = in_arena ? Storage::kArena : Storage::kPersistent;
    made.rate = rate;
    made.row_pitch = 4;
    uint64_t& end = in_arena ? profile.arena_bytes : profile.persistent_bytes;
    made.offset = std::exchange(end, end + 256);
    profile.slots.push_back(made);
    return static_cast<SlotId>(profile.slots.size() - 1);
  };
  const auto sum = [&](Rate stage, SlotId x, SlotId other, SlotId to) {
    Call call;
    call.name = profile.slots[to].name;
    call.kernel = "cpu.add.reference";
    call.attrs = graph::Add{};
    call.inputs = {{graph::Role::kX, x}, {graph::Role::kX, other}};
    call.outputs = {to};
    profile.stages[static_cast<size_t>(stage)].push_back(call);
    return to;
  };
  const SlotId t = slot("t", Rate::kSchedule);
  const SlotId s = slot("s", Rate::kSchedule);
  const SlotId x = slot("x", Rate::kStep);
  const SlotId p = slot("p", Rate::kPrompt);
  const SlotId b = slot("b", Rate::kPrompt);
  const SlotId c = sum(Rate::kPrompt, p, p, slot("c", Rate::kPrompt, true));
  sum(Rate::kPrompt, rest_reads_first ? c : p, p, b);  // before a: it must be overtaken
  const SlotId a = sum(Rate::kPrompt, c, p, slot("a", Rate::kPrompt));
  sum(Rate::kSchedule, t, a, s);
  const SlotId y = sum(Rate::kStep, x, s, slot("y", Rate::kStep));
  const SlotId z = sum(Rate::kStep, y, b, slot("z", Rate::kStep));
  profile.inputs = {{"t", t}, {"x", x}, {"p", p}};
  profile.outputs = {{"z", z}, {"b", b}};
  auto plan = std::make_shared<Plan>();
  plan->component = "m";
  plan->profiles = {profile};
  return plan;
}

// What the schedule does not read of the prompt runs beside it, a part of its own; not where it
// reads what the first part leaves in the arena.
TEST(Beside, RestOfThePromptRunsBesideTheSchedule) {
  for (const bool has_side : {true, false}) {
    for (const bool rest_reads_first : {true, false}) {
      RecordingDevice device;
      device.has_side = has_side;
      Executor executor(prompted_plan(rest_reads_first), 0, device, NoWeights(), {});
      const auto set = [&](const char* name, float value) {
        executor.set_input(name, Tensor::from({1, 4}, std::array{value, value, value, value}));
      };
      set("x", 100);
      for (const float p : {1.0F, 2.0F}) {
        set("p", p);
        executor.run_prompt();
        set("t", 10);
        executor.run_schedule(0);
        executor.run_step(0);
        const float b = rest_reads_first ? 3 * p : 2 * p;
        EXPECT_EQ(executor.output("z").values<float>()[0], 110 + 3 * p + b);
      }
      EXPECT_EQ(device.counts.begun, has_side && !rest_reads_first ? 4 : 3);
    }
  }
}

// Whoever reads or changes what the rest of the prompt concerns finds it done.
TEST(Beside, NobodySeesThatThePromptWaits) {
  RecordingDevice device;
  device.has_side = true;
  ExecutorOptions options;
  options.record = false;
  Executor executor(prompted_plan(false), 0, device, NoWeights(), options);
  const auto set_p = [&](float value) {
    executor.set_input("p", Tensor::from({1, 4}, std::array{value, value, value, value}));
  };
  set_p(1);
  executor.run_prompt();
  EXPECT_EQ(executor.output("b").values<float>()[0], 2.0F);
  set_p(2);
  executor.run_prompt();
  set_p(3);
  EXPECT_EQ(executor.output("b").values<float>()[0], 4.0F);
  float read = 0;
  executor.run_prompt();
  executor.read_output("b", std::as_writable_bytes(std::span(&read, 1)));
  EXPECT_EQ(read, 6.0F);
}

// Lines of a row of an output, and a row as it is, on the device.
TEST(Executor, CopiesRowsOfAnOutput) {
  Plan plan = *doubling_plan();
  for (Slot& slot : plan.profiles[0].slots) {
    slot.type = {DType::kF32, {2, 2, 3}};
    slot.row_pitch = 3;
  }
  RecordingDevice device;
  Executor executor(std::make_shared<Plan>(plan), 0, device, NoWeights(), {});
  EXPECT_EQ(executor.output_type("y"), executor.input_type("x"));
  const Tensor x = Tensor::from(
      {2, 2, 3}, std::array{1.F, 2.F, 3.F, 4.F, 5.F, 6.F, 7.F, 8.F, 9.F, 10.F, 11.F, 12.F});
  std::memcpy(executor.input_data("x"), x.data(), x.type().num_bytes());
  executor.run_step();
  std::array<float, 9> lines{};
  executor.copy_output("y", 1, lines.data() + 1, 5 * sizeof(float));
  EXPECT_EQ(lines, (std::array{0.F, 14.F, 16.F, 18.F, 0.F, 0.F, 20.F, 22.F, 24.F}));
  std::array<float, 6> row{};
  executor.copy_output("y", 0, row.data(), 3 * sizeof(float));
  EXPECT_EQ(row, (std::array{2.F, 4.F, 6.F, 8.F, 10.F, 12.F}));
  EXPECT_THROW(executor.copy_output("y", 2, row.data(), 3 * sizeof(float)), Error);
}

// Times and observations are of one call at a time.
TEST(Beside, NotWhenTimed) {
  RecordingDevice device;
  device.has_side = true;
  ExecutorOptions timed;
  timed.beside = true;
  timed.profile = true;
  EXPECT_FALSE(Executor(doubling_plan(), 0, device, NoWeights(), timed).is_beside());
}

}  // namespace
}  // namespace halftone::runtime
