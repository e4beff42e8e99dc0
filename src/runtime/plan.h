// The plan: a graph with every decision taken. Immutable value types; no machine code, no paths.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace halftone::runtime {

using SlotId = uint32_t;
inline constexpr SlotId kNoSlot = 0xffffffffU;

// Where a slot's bytes live.
enum class Storage : uint8_t {
  kWeight,      // a checkpoint tensor, read while loading
  kLiteral,     // a small table kept in the plan
  kConstant,    // result of a load-stage call
  kPersistent,  // inputs, outputs, and what crosses from one stage to a later one
  kArena,       // alive inside one stage; offsets are shared by liveness
  kView,        // part of another slot: no memory of its own
};
[[nodiscard]] std::string_view to_string(Storage storage);

// A tensor that calls read and write.
struct Slot {
  std::string name;
  TensorType type;
  Storage storage = Storage::kArena;
  graph::Rate rate = graph::Rate::kLoad;
  uint64_t offset = 0;    // bytes into the persistent region or the arena; into the base for a view
  int64_t row_pitch = 0;  // elements between rows; == type.shape.row_size() when dense
  SlotId base = kNoSlot;  // kView only: a slot that is no view itself
  std::string weight;     // kWeight only: WeightSource name
  std::shared_ptr<const Tensor> literal;  // kLiteral only
};

struct CallOperand {
  graph::Role role;
  SlotId slot;
};

// One line of a plan: an op bound to a kernel and its configuration.
struct Call {
  std::string name;    // module path in the checkpoint
  std::string kernel;  // name in the device's kernel list
  backend::Config config;
  graph::OpAttrs attrs;
  std::vector<CallOperand> inputs;
  std::vector<SlotId> outputs;
  uint64_t workspace_bytes = 0;
  uint64_t workspace_offset = 0;  // in the arena
  // The weight operand is wanted in the kernel's packed layout (Kernel::pack).
  bool packs_weight = false;
  // Kernels of higher priority and why they refused.
  std::vector<std::pair<std::string, std::string>> refused;
};

struct Binding {
  std::string name;
  SlotId slot;
};

// One concrete shape. Stages are indexed by graph::Rate.
struct Profile {
  std::map<std::string, int64_t> shape;  // "batch", "height", "width", "text_tokens", "cfg"
  std::vector<Slot> slots;
  std::array<std::vector<Call>, 4> stages;
  std::vector<Binding> inputs, outputs;
  uint64_t persistent_bytes = 0;
  uint64_t arena_bytes = 0;
};

// What decided the plan, in a fixed order; the hash is SHA-256 over all entries.
struct Fingerprint {
  std::vector<std::pair<std::string, std::string>> entries;
  [[nodiscard]] std::string hash() const;  // 64 hex digits
  // Entry value, or empty.
  [[nodiscard]] std::string entry(std::string_view key) const;
};

struct Plan {
  std::string component;  // "unet", "vae_decoder", ...
  Fingerprint fingerprint;
  // What the run path must know of the model; keys in models/metadata.h.
  std::map<std::string, std::string> metadata;
  std::vector<Profile> profiles;
};

// Entries that name what this library is: version, plan format, kernel table of the device.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> library_entries(
    const backend::DeviceInfo& device, std::span<const backend::Kernel* const> kernels);

}  // namespace halftone::runtime
