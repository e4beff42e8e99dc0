#include "runtime/constant_loader.h"

#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/hash.h"

namespace halftone::runtime {

using backend::Buffer;

CallTypes::CallTypes(const Profile& profile, const Call& call) {
  for (const CallOperand& operand : call.inputs) {
    inputs.push_back({operand.role, profile.slots[operand.slot].type});
  }
  for (const SlotId slot : call.outputs)
    outputs.push_back({graph::Role::kY, profile.slots[slot].type});
}

const backend::Kernel& kernel_of(const Call& call, const graph::OpDesc& desc,
                                 const backend::Device& device) {
  const backend::Kernel* kernel = find_kernel(device.kernels(), call.kernel);
  if (kernel == nullptr || kernel->op != graph::kind_of(call.attrs)) {
    throw Error(Errc::kIncompatiblePlan,
                fmt::format("{}: kernel '{}' is unknown to device '{}'; build the plan again",
                            call.name, call.kernel, device.info().name));
  }
  const backend::Support support = kernel->supports(desc, device.info());
  if (!support.ok) {
    throw Error(Errc::kIncompatiblePlan,
                fmt::format("{}: kernel '{}' refuses this device: {}; build the "
                            "plan again",
                            call.name, call.kernel, support.reason));
  }
  return *kernel;
}

ConstantLoader::ConstantLoader(const Profile& profile, backend::Device& device,
                               backend::Stream& stream, const WeightSource& weights,
                               ConstantStore& store)
    : profile_(profile),
      device_(device),
      stream_(stream),
      weights_(weights),
      store_(store),
      producer_(profile.slots.size(), nullptr) {
  for (const Call& call : profile.stages[0]) {
    for (const SlotId slot : call.outputs) producer_[slot] = &call;
  }
}

std::string ConstantLoader::key_of(SlotId slot) const {
  const Slot& s = profile_.slots[slot];
  switch (s.storage) {
    case Storage::kWeight:
      return fmt::format("{}:{}", s.weight, to_string(s.type));
    case Storage::kLiteral:
      return fmt::format("literal:{}:{}", to_string(s.type),
                         to_hex(sha256({s.literal->data(), s.type.num_bytes()})));
    default:
      break;
  }
  check_internal(s.storage == Storage::kConstant && producer_[slot] != nullptr,
                 "slot is no constant");
  std::string key = print_attrs(producer_[slot]->attrs) + "(";
  for (const CallOperand& operand : producer_[slot]->inputs) {
    key += to_string(operand.role);
    key += '=' + key_of(operand.slot) + ';';
  }
  return key + ')';
}

std::shared_ptr<Buffer> ConstantLoader::keep(const std::string& key,
                                             std::shared_ptr<Buffer> buffer) {
  store_.num_bytes_ += buffer->size();
  store_.buffers_.emplace(key, buffer);
  return buffer;
}

std::shared_ptr<Buffer> ConstantLoader::dense(SlotId slot) {
  const std::string key = key_of(slot);
  const auto found = store_.buffers_.find(key);
  if (found != store_.buffers_.end()) return found->second;
  return keep(key, evaluate(slot));
}

std::shared_ptr<Buffer> ConstantLoader::packed(SlotId slot, const backend::Kernel& kernel,
                                               const graph::OpDesc& desc, backend::Config config) {
  const std::string key = fmt::format("{}|{}|{}", key_of(slot), kernel.name,
                                      kernel.pack_key(desc, device_.info(), config));
  const auto found = store_.buffers_.find(key);
  if (found != store_.buffers_.end()) return found->second;
  const std::shared_ptr<Buffer> source = evaluate(slot);
  std::shared_ptr<Buffer> packed =
      device_.allocate(kernel.packed_bytes(desc, device_.info(), config));
  kernel.pack(desc, device_.info(), config, {profile_.slots[slot].type, source->data()},
              packed->data());
  return keep(key, std::move(packed));
}

std::shared_ptr<Buffer> ConstantLoader::evaluate(SlotId slot) {
  const Slot& s = profile_.slots[slot];
  std::shared_ptr<Buffer> buffer = device_.allocate(s.type.num_bytes());
  if (s.storage == Storage::kWeight) {
    if (device_.info().host_visible_memory) {
      weights_.read(s.weight, s.type, static_cast<std::byte*>(buffer->data()));
    } else {
      Tensor host(s.type);
      weights_.read(s.weight, s.type, host.data());
      device_.upload(buffer->data(), host.data(), s.type.num_bytes());
    }
  } else if (s.storage == Storage::kLiteral) {
    device_.upload(buffer->data(), s.literal->data(), s.type.num_bytes());
  } else {
    check_internal(s.storage == Storage::kConstant && producer_[slot] != nullptr,
                   "slot is no constant");
    run_call(*producer_[slot], *buffer);
  }
  return buffer;
}

void ConstantLoader::run_call(const Call& call, Buffer& result) {
  const CallTypes types(profile_, call);
  const graph::OpDesc desc = types.desc(call);
  const backend::Kernel& kernel = kernel_of(call, desc, device_);
  std::vector<std::shared_ptr<Buffer>> held;
  std::vector<TensorView> inputs;
  for (const CallOperand& operand : call.inputs) {
    held.push_back(evaluate(operand.slot));
    inputs.emplace_back(profile_.slots[operand.slot].type, held.back()->data());
  }
  const TensorView outputs[] = {{profile_.slots[call.outputs.front()].type, result.data()}};
  const std::unique_ptr<Buffer> workspace = device_.allocate(call.workspace_bytes);
  kernel.prepare(desc, device_.info(), call.config, {inputs, outputs, workspace->data()})
      ->enqueue(stream_);
  stream_.synchronize();
}

}  // namespace halftone::runtime
