// What a plan holds: I/O, profiles, fingerprint, every call with its kernel and the kernels that
// refused, the memory map.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/json.h"
#include "workflow/inspect.h"
#include "workflow/layer_table.h"
#include "workflow/report_json.h"

namespace halftone::workflow {
namespace {

using runtime::Call;
using runtime::Profile;
using runtime::Slot;

constexpr std::array kStages = {graph::Rate::kLoad, graph::Rate::kPrompt, graph::Rate::kSchedule,
                                graph::Rate::kStep};

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

std::string op_name(const Call& call) { return std::string(graph::name_of(call.attrs)); }

std::string shape_text(const Profile& profile) {
  std::string text;
  for (const auto& [name, extent] : profile.shape) text += fmt::format(" {}={}", name, extent);
  return text;
}

Json json_io(const Profile& profile, const std::vector<runtime::Binding>& bindings) {
  Json list = Json::array();
  for (const runtime::Binding& binding : bindings) {
    const Slot& slot = profile.slots[binding.slot];
    list.push(Json::object({{"name", binding.name},
                            {"type", to_string(slot.type)},
                            {"rate", graph::to_string(slot.rate)}}));
  }
  return list;
}

Json json_call(const Call& call) {
  Json refused = Json::array();
  for (const auto& [kernel, reason] : call.refused) {
    refused.push(Json::object({{"kernel", kernel}, {"reason", reason}}));
  }
  return Json::object({{"name", call.name},
                       {"op", op_name(call)},
                       {"kernel", call.kernel},
                       {"config", call.config.row},
                       {"workspace_bytes", call.workspace_bytes},
                       {"packs_weight", call.packs_weight},
                       {"refused", std::move(refused)}});
}

Json json_memory(const Profile& profile) {
  Json slots = Json::array();
  for (const Slot& slot : profile.slots) {
    if (slot.storage != runtime::Storage::kArena && slot.storage != runtime::Storage::kPersistent) {
      continue;
    }
    slots.push(Json::object({{"name", slot.name},
                             {"storage", to_string(slot.storage)},
                             {"offset", slot.offset},
                             {"size_bytes", slot.type.num_bytes()},
                             {"type", to_string(slot.type)}}));
  }
  return slots;
}

Json json_profile(const Profile& profile) {
  Json shape = Json::object();
  for (const auto& [name, extent] : profile.shape) shape.set(name, extent);
  Json json = Json::object({{"shape", std::move(shape)},
                            {"persistent_bytes", profile.persistent_bytes},
                            {"arena_bytes", profile.arena_bytes},
                            {"inputs", json_io(profile, profile.inputs)},
                            {"outputs", json_io(profile, profile.outputs)}});
  Json stages = Json::object();
  for (const graph::Rate rate : kStages) {
    Json calls = Json::array();
    for (const Call& call : profile.stages[static_cast<size_t>(rate)]) calls.push(json_call(call));
    stages.set(std::string(graph::to_string(rate)), std::move(calls));
  }
  json.set("stages", std::move(stages));
  json.set("memory", json_memory(profile));
  return json;
}

std::string text_io(const char* title, const Profile& profile,
                    const std::vector<runtime::Binding>& bindings) {
  std::string text = fmt::format("  {}\n", title);
  for (const runtime::Binding& binding : bindings) {
    const Slot& slot = profile.slots[binding.slot];
    text += fmt::format("    {:<24} {:<28} {}\n", binding.name, to_string(slot.type),
                        graph::to_string(slot.rate));
  }
  return text;
}

std::string text_calls(const Profile& profile, bool verbose) {
  std::string text;
  for (const graph::Rate rate : kStages) {
    const auto& calls = profile.stages[static_cast<size_t>(rate)];
    if (calls.empty()) continue;
    text += fmt::format("  stage {}: {} calls\n", graph::to_string(rate), calls.size());
    for (const Call& call : calls) {
      text += fmt::format("    {:<12} {:<36} {}\n", op_name(call), call.kernel, call.name);
      if (!verbose) continue;
      for (const auto& [kernel, reason] : call.refused) {
        text += fmt::format("    {:<12}   not {}: {}\n", "", kernel, reason);
      }
    }
  }
  return text;
}

// The largest residents of the arena.
std::string text_memory(const Profile& profile) {
  std::vector<const Slot*> slots;
  uint64_t weight_bytes = 0;
  for (const Slot& slot : profile.slots) {
    if (slot.storage == runtime::Storage::kArena) slots.push_back(&slot);
    if (slot.storage == runtime::Storage::kWeight) weight_bytes += slot.type.num_bytes();
  }
  std::sort(slots.begin(), slots.end(),
            [](const Slot* a, const Slot* b) { return a->type.num_bytes() > b->type.num_bytes(); });
  std::string text =
      fmt::format("  memory: weights {:.1f} MB, persistent {:.2f} MB, arena {:.2f} MB\n",
                  mib(weight_bytes), mib(profile.persistent_bytes), mib(profile.arena_bytes));
  constexpr size_t kShown = 8;
  for (size_t i = 0; i < std::min(kShown, slots.size()); ++i) {
    text += fmt::format("    arena +{:<12} {:>10} bytes  {} {}\n", slots[i]->offset,
                        slots[i]->type.num_bytes(), to_string(slots[i]->type), slots[i]->name);
  }
  return text;
}

}  // namespace

PlanDescription describe_plan(const runtime::Plan& plan, const std::string& path, bool verbose) {
  Json json = header("inspect");
  json.set("kind", "plan").set("path", path).set("component", plan.component);
  json.set("fingerprint", plan.fingerprint.hash());
  Json entries = Json::object();
  std::string text =
      fmt::format("plan of {}\nfingerprint {}\n", plan.component, plan.fingerprint.hash());
  for (const auto& [key, value] : plan.fingerprint.entries) {
    entries.set(key, value);
    text += fmt::format("  {:<20} {}\n", key, value);
  }
  json.set("fingerprint_entries", std::move(entries));
  Json metadata = Json::object();
  text += "metadata\n";
  for (const auto& [key, value] : plan.metadata) {
    if (key == kLayersKey) {
      text += fmt::format("  {:<28} shown by --layers\n", key);
      continue;
    }
    metadata.set(key, value);
    text += fmt::format("  {:<28} {}\n", key, value);
  }
  json.set("metadata", std::move(metadata));
  Json profiles = Json::array();
  for (const Profile& profile : plan.profiles) {
    profiles.push(json_profile(profile));
    text += fmt::format("profile{}\n", shape_text(profile));
    text += text_io("inputs", profile, profile.inputs);
    text += text_io("outputs", profile, profile.outputs);
    text += text_calls(profile, verbose);
    text += text_memory(profile);
  }
  json.set("profiles", std::move(profiles));
  return {.text = std::move(text), .json = std::move(json)};
}

}  // namespace halftone::workflow
