// Turns the load stage of a profile into device buffers, one constant at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/executor.h"

namespace halftone::runtime {

// Evaluates the expression behind a constant slot (checkpoint tensors, literals and load-stage
// calls) and packs it where its kernel wants that. Only one expression's temporaries are alive at a
// time, so loading needs little more memory than the packed constants themselves.
class ConstantLoader {
 public:
  ConstantLoader(const Profile& profile, backend::Device& device, backend::Stream& stream,
                 const WeightSource& weights, ConstantStore& store, ConstantCache* cache = nullptr);

  // The constant as it is; kept in the store.
  std::shared_ptr<backend::Buffer> dense(SlotId slot);
  // The constant in the packed layout of `call`'s kernel; kept in the store.
  std::shared_ptr<backend::Buffer> packed(SlotId slot, const backend::Kernel& kernel,
                                          const graph::OpDesc& desc, backend::Config config);

 private:
  std::shared_ptr<backend::Buffer> evaluate(SlotId slot);
  std::shared_ptr<backend::Buffer> read_weight(const Slot& slot);
  void cast(const TensorView& from, const TensorView& to);
  // Runs a load-stage call and returns one of its outputs.
  std::shared_ptr<backend::Buffer> run_call(const Call& call, SlotId wanted);
  std::string key_of(SlotId slot) const;
  std::shared_ptr<backend::Buffer> keep(const std::string& key,
                                        std::shared_ptr<backend::Buffer> buffer);
  // The cache holds results of load-stage calls; null when it does not hold this one.
  std::shared_ptr<backend::Buffer> cached(SlotId slot, const std::string& key, size_t bytes);
  void give_to_cache(SlotId slot, const std::string& key, const backend::Buffer& buffer);

  const Profile& profile_;
  backend::Device& device_;
  backend::Stream& stream_;
  const WeightSource& weights_;
  ConstantStore& store_;
  ConstantCache* cache_;
  std::vector<const Call*> producer_;
  std::vector<std::byte> scratch_;  // host memory that weights pass through
};

// Typed operands of a call, as its kernel sees them.
struct CallTypes {
  std::vector<graph::TypedOperand> inputs, outputs;
  CallTypes(const Profile& profile, const Call& call);
  [[nodiscard]] graph::OpDesc desc(const Call& call) const { return {call.attrs, inputs, outputs}; }
};

// The kernel a call names; throws kIncompatiblePlan when the device lacks it, it refuses the call,
// or the plan's configuration, workspace or packing is not what it needs.
const backend::Kernel& kernel_of(const Call& call, const graph::OpDesc& desc,
                                 const backend::Device& device);

}  // namespace halftone::runtime
