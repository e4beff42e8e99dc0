// Results that take their operand's place in the arena, where the kernel allows it.
#include <array>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "compile/compile.h"
#include "compile/memory_planner.h"
#include "runtime/plan_file.h"

namespace halftone::compile {
namespace {

backend::Support supports_any(const graph::OpDesc& /*desc*/, const backend::DeviceInfo& /*info*/) {
  return backend::Support::yes();
}

backend::Kernel kernel(std::string_view name, graph::OpKind op, bool in_place) {
  backend::Kernel kernel{};
  kernel.name = name;
  kernel.op = op;
  kernel.supports = supports_any;
  kernel.in_place = in_place;
  return kernel;
}

// Four activations in a row; the first is kept for the sum at the end.
constexpr std::string_view kChain = R"(input %0 "x" f32[1,64] step
node "a" unary{activation=silu} x=%0 -> %1 f32[1,64] step
node "b" unary{activation=silu} x=%1 -> %2 f32[1,64] step
node "c" unary{activation=silu} x=%2 -> %3 f32[1,64] step
node "d" unary{activation=silu} x=%3 -> %4 f32[1,64] step
node "e" add{broadcast_batch=false} x=%4 x=%1 -> %5 f32[1,64] step
output "y" %5
)";

runtime::Profile planned(bool in_place) {
  const backend::Kernel unary = kernel("t.unary", graph::OpKind::kUnary, in_place);
  const backend::Kernel add = kernel("t.add", graph::OpKind::kAdd, in_place);
  const std::array<const backend::Kernel*, 2> kernels{&unary, &add};
  const backend::DeviceInfo device;
  return compile_profile(graph::parse(kChain), {}, device, kernels);
}

const runtime::Slot& slot_of(const runtime::Profile& profile, std::string_view call) {
  for (const runtime::Call& one : profile.stages[static_cast<size_t>(graph::Rate::kStep)]) {
    if (one.name == call) return profile.slots[one.outputs[0]];
  }
  throw Error(Errc::kNotFound, std::string(call));
}

void check(const runtime::Profile& profile) {
  runtime::Plan plan;
  plan.component = "m";
  plan.fingerprint.entries = {{"a", "b"}};
  plan.profiles = {profile};
  runtime::check_plan(plan, "test");
}

TEST(InPlace, TakesThePlaceOfWhatEnds) {
  const runtime::Profile profile = planned(true);
  // "a" is read again by "e", so "b" has a place of its own; "c" and "d" stay in it.
  EXPECT_NE(slot_of(profile, "b").offset, slot_of(profile, "a").offset);
  EXPECT_EQ(slot_of(profile, "c").offset, slot_of(profile, "b").offset);
  EXPECT_EQ(slot_of(profile, "d").offset, slot_of(profile, "b").offset);
  EXPECT_EQ(profile.arena_bytes, 2 * kSlotAlignment);
  check(profile);
}

TEST(InPlace, OnlyWhereTheKernelAllowsIt) {
  const runtime::Profile profile = planned(false);
  EXPECT_NE(slot_of(profile, "c").offset, slot_of(profile, "b").offset);
  EXPECT_EQ(profile.arena_bytes, 3 * kSlotAlignment);
  check(profile);
}

// A plan file in which a result lies over something that is read later.
TEST(InPlace, PlanCheckRefusesTheRest) {
  runtime::Profile profile = planned(true);
  for (runtime::Slot& slot : profile.slots) slot.offset = slot_of(profile, "a").offset;
  EXPECT_THROW(check(profile), Error);
}

}  // namespace
}  // namespace halftone::compile
