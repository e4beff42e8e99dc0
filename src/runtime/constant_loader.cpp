#include "runtime/constant_loader.h"

#include <algorithm>
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
  for (const SlotId slot : call.outputs) {
    outputs.push_back({graph::output_role(call.attrs, outputs.size()), profile.slots[slot].type});
  }
}

const backend::Kernel& kernel_of(const Call& call, const graph::OpDesc& desc,
                                 const backend::Device& device) {
  const backend::DeviceInfo& info = device.info();
  const auto refuse = [&](const std::string& why) {
    throw Error(Errc::kIncompatiblePlan, fmt::format("{}: kernel '{}' {}; build the plan again",
                                                     call.name, call.kernel, why));
  };
  const backend::Kernel* kernel = find_kernel(device.kernels(), call.kernel);
  if (kernel == nullptr || kernel->op != graph::kind_of(call.attrs)) {
    refuse(fmt::format("is unknown to device '{}'", info.name));
  }
  const backend::Support support = supports(*kernel, desc, info);
  if (!support.ok) refuse(fmt::format("refuses this device: {}", support.reason));
  const auto is_row = [&](backend::Config config) { return config.row == call.config.row; };
  const bool has_row = kernel->configs != nullptr
                           ? std::ranges::any_of(kernel->configs(desc, info), is_row)
                           : is_row(backend::Config{});
  if (!has_row) refuse(fmt::format("has no configuration {}", call.config.row));
  const size_t workspace =
      kernel->workspace_bytes != nullptr ? kernel->workspace_bytes(desc, info, call.config) : 0;
  if (call.workspace_bytes < workspace) {
    refuse(fmt::format("needs {} bytes of workspace, the plan has {}", workspace,
                       call.workspace_bytes));
  }
  const bool packs =
      kernel->packed_bytes != nullptr && kernel->packed_bytes(desc, info, call.config) > 0;
  if (packs != call.packs_weight) {
    refuse(packs ? "wants its weight packed" : "takes its weight as it is");
  }
  return *kernel;
}

ConstantLoader::ConstantLoader(const Profile& profile, backend::Device& device,
                               backend::Stream& stream, const WeightSource& weights,
                               ConstantStore& store, ConstantCache* cache)
    : profile_(profile),
      device_(device),
      stream_(stream),
      weights_(weights),
      store_(store),
      cache_(cache),
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
  const std::vector<SlotId>& outputs = producer_[slot]->outputs;
  const auto index = std::find(outputs.begin(), outputs.end(), slot) - outputs.begin();
  return index == 0 ? key + ')' : fmt::format("{})#{}", key, index);
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
  if (auto kept = cached(slot, key, profile_.slots[slot].type.num_bytes())) {
    return keep(key, std::move(kept));
  }
  std::shared_ptr<Buffer> buffer = evaluate(slot);
  // A call with several results may have stored this one.
  if (const auto stored = store_.buffers_.find(key); stored != store_.buffers_.end()) return buffer;
  give_to_cache(slot, key, *buffer);
  return keep(key, buffer);
}

std::shared_ptr<Buffer> ConstantLoader::packed(SlotId slot, const backend::Kernel& kernel,
                                               const graph::OpDesc& desc, backend::Config config) {
  const std::string key = fmt::format("{}|{}|{}", key_of(slot), kernel.name,
                                      kernel.pack_key(desc, device_.info(), config));
  const auto found = store_.buffers_.find(key);
  if (found != store_.buffers_.end()) return found->second;
  const size_t bytes = kernel.packed_bytes(desc, device_.info(), config);
  if (auto kept = cached(slot, key, bytes)) return keep(key, std::move(kept));
  const std::shared_ptr<Buffer> source = evaluate(slot);
  std::shared_ptr<Buffer> packed = device_.allocate(bytes);
  kernel.pack(desc, device_.info(), config, {profile_.slots[slot].type, source->data()},
              packed->data());
  give_to_cache(slot, key, *packed);
  return keep(key, std::move(packed));
}

std::shared_ptr<Buffer> ConstantLoader::cached(SlotId slot, const std::string& key, size_t bytes) {
  if (cache_ == nullptr || profile_.slots[slot].storage != Storage::kConstant) return nullptr;
  if (!cache_->holds(key, bytes)) return nullptr;
  std::shared_ptr<Buffer> buffer = device_.allocate(bytes);
  if (device_.info().host_visible_memory) {
    if (!cache_->read(key, {static_cast<std::byte*>(buffer->data()), bytes})) return nullptr;
    return buffer;
  }
  if (scratch_.size() < bytes) scratch_.resize(bytes);
  if (!cache_->read(key, std::span(scratch_).first(bytes))) return nullptr;
  device_.upload(buffer->data(), scratch_.data(), bytes);
  return buffer;
}

void ConstantLoader::give_to_cache(SlotId slot, const std::string& key, const Buffer& buffer) {
  if (cache_ == nullptr || profile_.slots[slot].storage != Storage::kConstant) return;
  if (device_.info().host_visible_memory) {
    cache_->add(key, {static_cast<const std::byte*>(buffer.data()), buffer.size()});
    return;
  }
  if (scratch_.size() < buffer.size()) scratch_.resize(buffer.size());
  stream_.synchronize();
  device_.download(scratch_.data(), buffer.data(), buffer.size());
  cache_->add(key, {scratch_.data(), buffer.size()});
}

std::shared_ptr<Buffer> ConstantLoader::evaluate(SlotId slot) {
  const Slot& s = profile_.slots[slot];
  if (s.storage == Storage::kConstant && producer_[slot] != nullptr) {
    return run_call(*producer_[slot], slot);
  }
  if (s.storage == Storage::kWeight) return read_weight(s);
  check_internal(s.storage == Storage::kLiteral, "slot is no constant");
  std::shared_ptr<Buffer> buffer = device_.allocate(s.type.num_bytes());
  device_.upload(buffer->data(), s.literal->data(), s.type.num_bytes());
  return buffer;
}

std::shared_ptr<Buffer> ConstantLoader::read_weight(const Slot& slot) {
  std::shared_ptr<Buffer> buffer = device_.allocate(slot.type.num_bytes());
  if (device_.info().host_visible_memory) {
    weights_.read(slot.weight, slot.type, static_cast<std::byte*>(buffer->data()));
    return buffer;
  }
  // In the stored type, converted over there: the host only copies.
  const DType stored = weights_.type(slot.weight).dtype;
  const TensorType type{is_floating(stored) ? stored : slot.type.dtype, slot.type.shape};
  if (scratch_.size() < type.num_bytes()) scratch_.resize(type.num_bytes());
  weights_.read(slot.weight, type, scratch_.data());
  if (type == slot.type) {
    device_.upload(buffer->data(), scratch_.data(), type.num_bytes());
    return buffer;
  }
  const std::unique_ptr<Buffer> raw = device_.allocate(type.num_bytes());
  device_.upload(raw->data(), scratch_.data(), type.num_bytes());
  cast({type, raw->data()}, {slot.type, buffer->data()});
  return buffer;
}

void ConstantLoader::cast(const TensorView& from, const TensorView& to) {
  const graph::OpAttrs attrs = graph::Cast{to.type.dtype};
  const graph::TypedOperand input{graph::Role::kX, from.type};
  const graph::TypedOperand output{graph::Role::kY, to.type};
  const graph::OpDesc desc{attrs, {&input, 1}, {&output, 1}};
  for (const backend::Kernel* kernel : device_.kernels()) {
    if (kernel->op != graph::OpKind::kCast || !kernel->supports(desc, device_.info()).ok) continue;
    kernel->prepare(desc, device_.info(), {}, {{&from, 1}, {&to, 1}, nullptr})->enqueue(stream_);
    return;
  }
  throw Error(Errc::kUnsupported,
              fmt::format("no kernel of device '{}' converts {} to {}", device_.info().name,
                          to_string(from.type.dtype), to_string(to.type.dtype)));
}

std::shared_ptr<Buffer> ConstantLoader::run_call(const Call& call, SlotId wanted) {
  // A small second result (the scales of a quantized weight) is kept the first time.
  const std::string key = call.outputs.size() > 1 ? key_of(wanted) : std::string();
  if (const auto found = store_.buffers_.find(key); found != store_.buffers_.end()) {
    return found->second;
  }
  const CallTypes types(profile_, call);
  const graph::OpDesc desc = types.desc(call);
  const backend::Kernel& kernel = kernel_of(call, desc, device_);
  std::vector<std::shared_ptr<Buffer>> held;
  std::vector<TensorView> inputs;
  for (const CallOperand& operand : call.inputs) {
    held.push_back(evaluate(operand.slot));
    inputs.emplace_back(profile_.slots[operand.slot].type, held.back()->data());
  }
  std::vector<std::shared_ptr<Buffer>> results;
  std::vector<TensorView> outputs;
  std::shared_ptr<Buffer> result;
  for (const SlotId slot : call.outputs) {
    const TensorType& type = profile_.slots[slot].type;
    results.push_back(device_.allocate(type.num_bytes()));
    outputs.emplace_back(type, results.back()->data());
    if (slot == wanted) result = results.back();
  }
  const std::unique_ptr<Buffer> workspace = device_.allocate(call.workspace_bytes);
  kernel.prepare(desc, device_.info(), call.config, {inputs, outputs, workspace->data()})
      ->enqueue(stream_);
  stream_.synchronize();
  for (size_t i = 1; i < call.outputs.size(); ++i) {
    const std::string small = key_of(call.outputs[i]);
    if (store_.buffers_.contains(small)) continue;
    give_to_cache(call.outputs[i], small, *results[i]);
    keep(small, results[i]);
  }
  return result;
}

}  // namespace halftone::runtime
