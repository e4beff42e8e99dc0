// Runs one profile of a plan on one device.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "halftone/log.h"

#include "runtime/constant_cache.h"
#include "runtime/plan.h"

namespace halftone::runtime {

// Loaded constants (packed weights), shared between the profiles of a component: equal expressions
// are loaded once. Must outlive the executors that use it. Not thread-safe.
class ConstantStore {
 public:
  [[nodiscard]] uint64_t num_bytes() const { return num_bytes_; }

 private:
  friend class ConstantLoader;
  std::map<std::string, std::shared_ptr<backend::Buffer>> buffers_;
  uint64_t num_bytes_ = 0;
};

// A call that has just run, with host copies of its operands from before and of its results; they
// may be pitched and live for the callback.
struct ObservedCall {
  const Call& call;
  const graph::OpDesc& desc;
  std::span<const TensorView> inputs, outputs;
};
using CallObserver = std::function<void(const ObservedCall&)>;

struct ExecutorOptions {
  // Memory for Storage::kArena, at least profile.arena_bytes from arena_offset (a multiple of 256)
  // on; null = own. Executors that never run at the same time may share one.
  std::shared_ptr<backend::Buffer> arena;
  uint64_t arena_offset = 0;
  std::shared_ptr<ConstantStore> constants;  // null = own
  // Where results of load-stage calls are kept between processes; null = nowhere. Committed once
  // everything is loaded.
  std::shared_ptr<ConstantCache> constant_cache{};
  bool profile = false;  // time every call (CPU: wall time)
  bool record =
      true;  // replay a stage as one recording from its second run on, where the device can
  // Sees every call once, the first time it runs alone; nothing is recorded then, and the host
  // keeps every weight as it is.
  CallObserver observer{};
  // On a stream of its own where the device has side streams (not when timed or observed), so that
  // run_together() overlaps it with others; the arena must then be free of theirs.
  bool beside = false;
  ProgressCallback progress;  // stage "load"
};

struct MemoryReport {
  uint64_t constant_bytes = 0;    // static: weights as the kernels hold them
  uint64_t persistent_bytes = 0;  // inputs, outputs, prompt and schedule results
  uint64_t arena_bytes = 0;       // dynamic
  uint64_t schedule_bytes = 0;    // rows kept by run_schedule, and what it has of its own
};

struct CallTime {
  std::string name, op, kernel;
  graph::Rate stage;
  uint64_t runs = 0;
  double total_ms = 0;
  double flop = 0;  // floating-point operations of one run (linear, conv2d, attention; else 0)
};

// Owns the regions and the prepared launches. One caller at a time; the device, the weights (while
// constructing) and the plan must outlive it.
class Executor {
 public:
  // Loads and packs the constants, then prepares every call. Throws kIncompatiblePlan when a kernel
  // is unknown to the device or refuses, kNotFound or kCorruptFile for weights that do not fit,
  // kCancelled.
  Executor(std::shared_ptr<const Plan> plan, size_t profile, backend::Device& device,
           const WeightSource& weights, ExecutorOptions options = {});
  ~Executor();
  Executor(Executor&&) noexcept;
  Executor& operator=(Executor&&) = delete;

  // Host to device; type must equal the input's exactly (kInvalidArgument).
  void set_input(std::string_view name, const Tensor& value);
  [[nodiscard]] Tensor output(std::string_view name) const;
  // The first `to.size()` bytes of an output, once everything that was run is done.
  void read_output(std::string_view name, std::span<std::byte> to) const;
  [[nodiscard]] const TensorType& input_type(std::string_view name) const;
  [[nodiscard]] const TensorType& output_type(std::string_view name) const;
  [[nodiscard]] bool has_input(std::string_view name) const;
  // Where the device keeps an input, dense, for copies on the device into it before the stage that
  // reads it is run; they belong in the common order (Device::create_stream).
  [[nodiscard]] void* input_data(std::string_view name);
  // Device copy of row `row` of an output's leading axis, in the common order: its lines (of the
  // last axis) go to `to` on the device, `pitch` bytes from one to the next.
  void copy_output(std::string_view name, int64_t row, void* to, size_t pitch) const;
  // Device copy of an output into an input of the same type ("state" of the next step).
  void feed_back(std::string_view output, std::string_view input);

  // Runs stage kPrompt (after the prompt's inputs changed). Where the schedule runs beside the
  // steps, what it does not read may wait until it is enqueued, so that both overlap; no caller
  // sees that.
  void run_prompt();
  // Runs stage kSchedule on the current inputs and keeps what later stages need as row `row`.
  void run_schedule(int row);
  // Whether a row that is scheduled before an earlier row's step runs beside it.
  [[nodiscard]] bool schedules_beside() const;
  // Runs stage kStep with the kept results of schedule row `row` (ignored when nothing crosses).
  void run_step(int row = 0);

  // run_step() of each; what is `beside` overlaps the others, and all else until its results are
  // read or it is joined.
  static void start_together(std::span<Executor* const> executors);
  [[nodiscard]] bool is_beside() const;
  // What is enqueued from here on in the common order runs after everything that was started here.
  void join();

  // Waits for everything that was run.
  void synchronize();

  [[nodiscard]] const Profile& profile() const;
  [[nodiscard]] MemoryReport memory() const;
  [[nodiscard]] std::vector<CallTime> times() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halftone::runtime
