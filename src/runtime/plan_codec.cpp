#include "runtime/plan_codec.h"

#include <algorithm>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::runtime {
namespace {

constexpr size_t kMaxRank = 8;
constexpr size_t kMaxText = size_t{1} << 20;

void put(ByteWriter& out, const TensorType& type) {
  out.number(static_cast<uint8_t>(type.dtype));
  out.number(static_cast<uint8_t>(type.shape.rank()));
  for (const int64_t extent : type.shape.dims()) out.number(extent);
}

TensorType get_type(ByteReader& in) {
  const auto dtype = in.number<uint8_t>();
  if (dtype > static_cast<uint8_t>(DType::kI64)) in.fail(fmt::format("unknown dtype {}", dtype));
  const auto rank = in.number<uint8_t>();
  if (rank > kMaxRank) in.fail(fmt::format("rank {} of a tensor, at most {}", rank, kMaxRank));
  std::vector<int64_t> dims(rank);
  int64_t elements = 1;
  for (int64_t& extent : dims) {
    extent = in.number<int64_t>();
    constexpr int64_t kMaxElements = int64_t{1} << 40;
    if (extent < 0 || extent > kMaxElements || (extent > 0 && elements > kMaxElements / extent)) {
      in.fail(fmt::format("extent {} of a tensor is out of range", extent));
    }
    elements *= std::max<int64_t>(extent, 1);
  }
  return {static_cast<DType>(dtype), Shape(std::move(dims))};
}

void put(ByteWriter& out, const Slot& slot, std::vector<std::byte>& literals) {
  out.text(slot.name);
  put(out, slot.type);
  out.number(static_cast<uint8_t>(slot.storage));
  out.number(static_cast<uint8_t>(slot.rate));
  out.number(slot.offset);
  out.number(slot.row_pitch);
  out.number(slot.base);
  out.text(slot.weight);
  if (slot.storage != Storage::kLiteral) return;
  out.number(static_cast<uint64_t>(literals.size()));
  const auto* data = slot.literal->data();
  literals.insert(literals.end(), data, data + slot.literal->type().num_bytes());
}

Slot get_slot(ByteReader& in, std::span<const std::byte> literals) {
  Slot slot;
  slot.name = in.text();
  slot.type = get_type(in);
  const auto storage = in.number<uint8_t>();
  if (storage > static_cast<uint8_t>(Storage::kView)) in.fail("unknown storage of a slot");
  slot.storage = static_cast<Storage>(storage);
  const auto rate = in.number<uint8_t>();
  if (rate > static_cast<uint8_t>(graph::Rate::kStep)) in.fail("unknown rate of a slot");
  slot.rate = static_cast<graph::Rate>(rate);
  slot.offset = in.number<uint64_t>();
  slot.row_pitch = in.number<int64_t>();
  slot.base = in.number<uint32_t>();
  slot.weight = in.text();
  if (slot.storage != Storage::kLiteral) return slot;
  const auto begin = in.number<uint64_t>();
  const uint64_t size = slot.type.num_bytes();
  if (begin > literals.size() || size > literals.size() - begin) {
    in.fail("a literal lies outside the literals section");
  }
  auto tensor = std::make_shared<Tensor>(slot.type);
  if (size > 0) std::memcpy(tensor->data(), literals.data() + begin, size);
  slot.literal = std::move(tensor);
  return slot;
}

void put(ByteWriter& out, const Call& call) {
  out.text(call.name);
  out.text(call.kernel);
  out.number(call.config.row);
  out.text(graph::print_attrs(call.attrs));
  out.number(static_cast<uint32_t>(call.inputs.size()));
  for (const CallOperand& operand : call.inputs) {
    out.text(graph::to_string(operand.role));
    out.number(operand.slot);
  }
  out.number(static_cast<uint32_t>(call.outputs.size()));
  for (const SlotId slot : call.outputs) out.number(slot);
  out.number(call.workspace_bytes);
  out.number(call.workspace_offset);
  out.number(static_cast<uint8_t>(call.packs_weight));
  out.number(static_cast<uint32_t>(call.refused.size()));
  for (const auto& [kernel, reason] : call.refused) {
    out.text(kernel);
    out.text(reason);
  }
}

Call get_call(ByteReader& in) {
  Call call;
  call.name = in.text();
  call.kernel = in.text();
  call.config.row = in.number<uint16_t>();
  const std::string attrs = in.text();
  try {
    call.attrs = graph::parse_attrs(attrs);
  } catch (const Error& error) {
    in.fail(error.what());
  }
  call.inputs.resize(in.count(8));
  for (CallOperand& operand : call.inputs) {
    const std::string role = in.text();
    try {
      operand.role = graph::parse_role(role);
    } catch (const Error& error) {
      in.fail(error.what());
    }
    operand.slot = in.number<uint32_t>();
  }
  call.outputs.resize(in.count(4));
  for (SlotId& slot : call.outputs) slot = in.number<uint32_t>();
  call.workspace_bytes = in.number<uint64_t>();
  call.workspace_offset = in.number<uint64_t>();
  const auto packs = in.number<uint8_t>();
  if (packs > 1) in.fail("a flag is neither 0 nor 1");
  call.packs_weight = packs == 1;
  call.refused.resize(in.count(8));
  for (auto& [kernel, reason] : call.refused) {
    kernel = in.text();
    reason = in.text();
  }
  return call;
}

void put(ByteWriter& out, const std::vector<Binding>& bindings) {
  out.number(static_cast<uint32_t>(bindings.size()));
  for (const Binding& binding : bindings) {
    out.text(binding.name);
    out.number(binding.slot);
  }
}

std::vector<Binding> get_bindings(ByteReader& in) {
  std::vector<Binding> bindings(in.count(8));
  for (Binding& binding : bindings) {
    binding.name = in.text();
    binding.slot = in.number<uint32_t>();
  }
  return bindings;
}

void put(ByteWriter& out, const Profile& profile, std::vector<std::byte>& literals) {
  out.number(static_cast<uint32_t>(profile.shape.size()));
  for (const auto& [name, extent] : profile.shape) {
    out.text(name);
    out.number(extent);
  }
  out.number(static_cast<uint32_t>(profile.slots.size()));
  for (const Slot& slot : profile.slots) put(out, slot, literals);
  for (const auto& stage : profile.stages) {
    out.number(static_cast<uint32_t>(stage.size()));
    for (const Call& call : stage) put(out, call);
  }
  put(out, profile.inputs);
  put(out, profile.outputs);
  out.number(profile.persistent_bytes);
  out.number(profile.arena_bytes);
}

Profile get_profile(ByteReader& in, std::span<const std::byte> literals) {
  Profile profile;
  for (size_t n = in.count(12); n > 0; --n) {
    std::string name = in.text();
    profile.shape[std::move(name)] = in.number<int64_t>();
  }
  constexpr size_t kMinSlot = 34;
  for (size_t n = in.count(kMinSlot); n > 0; --n) profile.slots.push_back(get_slot(in, literals));
  constexpr size_t kMinCall = 43;
  for (auto& stage : profile.stages) {
    for (size_t n = in.count(kMinCall); n > 0; --n) stage.push_back(get_call(in));
  }
  profile.inputs = get_bindings(in);
  profile.outputs = get_bindings(in);
  profile.persistent_bytes = in.number<uint64_t>();
  profile.arena_bytes = in.number<uint64_t>();
  return profile;
}

}  // namespace

void ByteWriter::text(std::string_view value) {
  number(static_cast<uint32_t>(value.size()));
  bytes(std::as_bytes(std::span(value)));
}

void ByteReader::fail(std::string_view text) const {
  throw Error(
      Errc::kCorruptFile,
      fmt::format("{}: byte {} of a section: {}; run 'halftone build' again", origin_, at_, text));
}

std::span<const std::byte> ByteReader::take(uint64_t size) {
  if (size > data_.size() - at_) {
    fail(fmt::format("{} bytes are missing", size - (data_.size() - at_)));
  }
  const auto result = data_.subspan(at_, static_cast<size_t>(size));
  at_ += static_cast<size_t>(size);
  return result;
}

size_t ByteReader::count(size_t min_bytes) {
  const auto value = number<uint32_t>();
  if (value > (data_.size() - at_) / min_bytes) fail(fmt::format("count {} is too large", value));
  return value;
}

std::string ByteReader::text() {
  const size_t size = count(1);
  if (size > kMaxText) fail(fmt::format("a text of {} bytes", size));
  const auto bytes = take(size);
  return {reinterpret_cast<const char*>(bytes.data()), size};
}

void ByteReader::expect_end() const {
  if (at_ != data_.size()) fail(fmt::format("{} bytes too many", data_.size() - at_));
}

PlanSections encode(const Plan& plan) {
  ByteWriter head;
  head.text(plan.component);
  head.number(static_cast<uint32_t>(plan.fingerprint.entries.size()));
  for (const auto& [key, value] : plan.fingerprint.entries) {
    head.text(key);
    head.text(value);
  }
  head.number(static_cast<uint32_t>(plan.metadata.size()));
  for (const auto& [key, value] : plan.metadata) {
    head.text(key);
    head.text(value);
  }
  PlanSections sections;
  ByteWriter profiles;
  profiles.number(static_cast<uint32_t>(plan.profiles.size()));
  for (const Profile& profile : plan.profiles) put(profiles, profile, sections.literals);
  sections.head = head.data();
  sections.profiles = profiles.data();
  return sections;
}

Plan decode(std::span<const std::byte> head_bytes, std::span<const std::byte> profile_bytes,
            std::span<const std::byte> literals, const std::string& origin) {
  Plan plan;
  ByteReader head(head_bytes, origin);
  plan.component = head.text();
  plan.fingerprint.entries.resize(head.count(8));
  for (auto& [key, value] : plan.fingerprint.entries) {
    key = head.text();
    value = head.text();
  }
  for (size_t n = head.count(8); n > 0; --n) {
    std::string key = head.text();
    plan.metadata[std::move(key)] = head.text();
  }
  head.expect_end();
  ByteReader profiles(profile_bytes, origin);
  constexpr size_t kMinProfile = 44;
  for (size_t n = profiles.count(kMinProfile); n > 0; --n) {
    plan.profiles.push_back(get_profile(profiles, literals));
  }
  profiles.expect_end();
  return plan;
}

}  // namespace halftone::runtime
