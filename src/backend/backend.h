// What the run path knows of a device: memory, kernels, launches. Interfaces only.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/power_meter.h"
#include "graph/ops/ops.h"

namespace halftone::backend {

// Facts that decide which kernels apply; plain data, so that a plan can be built for an absent
// device.
struct DeviceInfo {
  std::string name;   // "cpu"
  std::string arch;   // what the fingerprint records: "x86-64+avx512+vnni", "sm_90"
  int num_units = 1;  // threads or SMs
  size_t memory_bytes = 0;
  // The host may read and write a Buffer's data() directly; otherwise only upload and download.
  bool host_visible_memory = false;
  std::vector<std::string>
      features;  // "avx2", "avx512", "avx512_bf16", "amx_bf16", "amx_int8", ...
  [[nodiscard]] bool has(std::string_view feature) const;
};

// The answer of a kernel to an op; every "no" says why.
struct Support {
  bool ok = true;
  std::string reason;
  static Support yes() { return {}; }
  static Support no(std::string why) { return {false, std::move(why)}; }
};

// Row of the kernel's own table of configurations.
struct Config {
  uint16_t row = 0;
};

// Addresses of a call, in the order of the op's operands. A packed weight operand points at the
// packed bytes.
struct Operands {
  std::span<const TensorView> inputs;
  std::span<const TensorView> outputs;
  void* workspace = nullptr;
  uint32_t constants = 0;  // bit i: input i holds the same values whenever the launch runs
};

class Stream;

// A recorded sequence of launches, replayed as one (a CUDA graph).
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay(Stream& stream) const = 0;
};

// Work in order. Launches may run after enqueue returned; synchronize waits for all of them and
// throws what went wrong.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void synchronize() = 0;
  // Between begin and end, launches are recorded instead of run. False: this device cannot record.
  [[nodiscard]] virtual bool begin_recording() { return false; }
  [[nodiscard]] virtual std::unique_ptr<Recording> end_recording() { return nullptr; }
  // Sets time mark `index`; ms_between answers for two marks once the stream is synchronised.
  virtual void mark(size_t index);
  [[nodiscard]] virtual double ms_between(size_t first, size_t last) const;
  // Returns once what was enqueued before mark `index` is done.
  virtual void wait_for_mark(size_t /*index*/) {}
  // Names what is enqueued until end_range, for a profiler.
  virtual void begin_range(const char* /*name*/) {}
  virtual void end_range() {}
  // What is enqueued from here on runs after everything that `other` holds now.
  virtual void wait_for(Stream& /*other*/) {}

 private:
  std::vector<std::chrono::steady_clock::time_point> marks_;
};

// A kernel bound to addresses. enqueue never allocates and never synchronises.
class Launch {
 public:
  virtual ~Launch() = default;
  virtual void enqueue(Stream& stream) const = 0;
};

// One entry of a backend's kernels.inc; order in the list = priority. All functions but `prepare`
// and `pack` are pure. Functions marked optional may be null.
struct Kernel {
  std::string_view name;  // "cpu.linear.bf16.onednn"
  graph::OpKind op;
  Support (*supports)(const graph::OpDesc&, const DeviceInfo&);
  // Optional; best first. Null = one configuration.
  std::vector<Config> (*configs)(const graph::OpDesc&, const DeviceInfo&);
  // Optional; null = none. Bytes of scratch for one call.
  size_t (*workspace_bytes)(const graph::OpDesc&, const DeviceInfo&, Config);
  // Optional: bytes of the weight operand in the layout that `prepare` wants; 0 = as it is. Packed
  // bytes replace the dense weight at load time.
  size_t (*packed_bytes)(const graph::OpDesc&, const DeviceInfo&, Config);
  // Equal keys = identical packed bytes for the same weight (shared between shape profiles).
  std::string (*pack_key)(const graph::OpDesc&, const DeviceInfo&, Config);
  void (*pack)(const graph::OpDesc&, const DeviceInfo&, Config, const TensorView& weight,
               void* packed);
  std::unique_ptr<Launch> (*prepare)(const graph::OpDesc&, const DeviceInfo&, Config,
                                     const Operands&);
  // The output may lie where the first input does when both have one type: each element is read by
  // whoever writes it, before.
  bool in_place = false;
  // Makes what a linear or convolution tells the norm or quantization behind it
  // (graph::makes_statistics).
  bool statistics = false;
  // Takes attentions that compute their queries (graph::projects_queries).
  bool projects_queries = false;
};

// Whether a kernel serves an op of its kind: `supports`, and what the kernel's flags say.
[[nodiscard]] Support supports(const Kernel& kernel, const graph::OpDesc& desc,
                               const DeviceInfo& info);

// Device memory; freed on destruction.
class Buffer {
 public:
  virtual ~Buffer() = default;
  [[nodiscard]] virtual void* data() const = 0;
  [[nodiscard]] virtual size_t size() const = 0;
};

// Not thread-safe; one caller at a time.
class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual const DeviceInfo& info() const = 0;
  // Ordered list; the first that supports an op serves it.
  [[nodiscard]] virtual std::span<const Kernel* const> kernels() const = 0;
  // Streams of this kind are one order of work, in which copies lie as well.
  [[nodiscard]] virtual std::unique_ptr<Stream> create_stream() = 0;
  // Another order beside it, joined by wait_for only; null where the device has none.
  [[nodiscard]] virtual std::unique_ptr<Stream> create_side_stream() { return nullptr; }
  // 64-byte aligned at least; throws kOutOfMemory with needed and free bytes.
  [[nodiscard]] virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  virtual void download(void* host, const void* device, size_t bytes) = 0;
  // Device-to-device copy ordered on the stream.
  virtual void copy(void* dst, const void* src, size_t bytes, Stream& stream) = 0;
  // `count` such copies of `bytes`, dst_pitch and src_pitch bytes from one to the next.
  virtual void copy_rows(void* dst, size_t dst_pitch, const void* src, size_t src_pitch,
                         size_t bytes, size_t count, Stream& stream);
  // As download, but waits for nothing else than what `stream` holds now, a side stream too.
  virtual void download_behind(Stream& /*stream*/, void* host, const void* device, size_t bytes) {
    download(host, device, bytes);
  }
  // Most bytes that were allocated at one time so far; 0 where nobody counts.
  [[nodiscard]] virtual uint64_t peak_bytes() const { return 0; }
  // Null when the device tells nothing of its power and clock; `missing` is what it does not tell
  // and why, also beside a meter. Independent of the device's work.
  [[nodiscard]] virtual std::unique_ptr<PowerMeter> open_power_meter(std::string& missing);
};

// First kernel of the list by name, or null.
[[nodiscard]] const Kernel* find_kernel(std::span<const Kernel* const> kernels,
                                        std::string_view name);

}  // namespace halftone::backend
