// What the run path knows of a device: memory, kernels, launches. Interfaces only.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/ops/ops.h"

namespace halftone::backend {

// Facts that decide which kernels apply; plain data, so that a plan can be built for an absent
// device.
struct DeviceInfo {
  std::string name;   // "cpu"
  std::string arch;   // what the fingerprint records: "x86-64+avx512+vnni", "sm_90"
  int num_units = 1;  // threads or SMs
  size_t memory_bytes = 0;
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
};

class Stream {
 public:
  virtual ~Stream() = default;
  virtual void synchronize() = 0;
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
};

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
  [[nodiscard]] virtual std::unique_ptr<Stream> create_stream() = 0;
  // 64-byte aligned at least; throws kOutOfMemory with needed and free bytes.
  [[nodiscard]] virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  virtual void download(void* host, const void* device, size_t bytes) = 0;
  // Device-to-device copy ordered on the stream.
  virtual void copy(void* dst, const void* src, size_t bytes, Stream& stream) = 0;
};

// First kernel of the list by name, or null.
[[nodiscard]] const Kernel* find_kernel(std::span<const Kernel* const> kernels,
                                        std::string_view name);

}  // namespace halftone::backend
