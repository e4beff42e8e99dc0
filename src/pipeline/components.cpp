#include "pipeline/components.h"

#include <algorithm>

#include <fmt/format.h>

#include "halftone/error.h"

#include "pipeline/clock.h"

namespace halftone::pipeline {

std::optional<size_t> find_profile(const runtime::Plan& plan, const ShapeKey& shape) {
  for (size_t i = 0; i < plan.profiles.size(); ++i) {
    if (plan.profiles[i].shape == shape) return i;
  }
  return std::nullopt;
}

std::string to_string(const ShapeKey& shape) {
  std::string text;
  for (const auto& [name, extent] : shape) {
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, extent);
  }
  return text;
}

Components::Components(backend::Device& device, PlanProvider provider, ComponentsOptions options)
    : device_(device), provider_(std::move(provider)), options_(std::move(options)) {}

Components::Entry& Components::find_or_plan(const Wanted& wanted) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.key.component == wanted.component && entry.key.shape == wanted.shape &&
           entry.key.fp32 == wanted.fp32;
  });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front();
  }
  Entry entry{.key = wanted, .source = provider_(wanted), .profile = 0, .executor = nullptr};
  const std::optional<size_t> profile = find_profile(*entry.source.plan, wanted.shape);
  if (!profile) {
    throw Error(Errc::kIncompatiblePlan,
                fmt::format("{} plan {}: has no profile for {}; build one with 'halftone build'",
                            wanted.component, entry.source.plan->fingerprint.hash().substr(0, 8),
                            to_string(wanted.shape)));
  }
  entry.profile = *profile;
  last_build_ms_ += entry.source.build_ms;
  entries_.push_front(std::move(entry));
  return entries_.front();
}

void Components::grow_arena(uint64_t bytes) {
  if (arena_ && arena_->size() >= bytes) return;
  // Executors are bound to addresses: drop them all, so that the old arena is free before the new
  // one is taken. Their constants stay.
  for (Entry& entry : entries_) entry.executor.reset();
  arena_.reset();
  arena_ = device_.allocate(static_cast<size_t>(bytes));
}

void Components::forget_old(const std::vector<Entry*>& in_use) {
  std::map<std::string, size_t> kept;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const bool used = std::find(in_use.begin(), in_use.end(), &*it) != in_use.end();
    if (++kept[it->key.component] > options_.shapes_kept && !used) {
      it = entries_.erase(it);
    } else {
      ++it;
    }
  }
}

std::vector<runtime::Executor*> Components::prepare(const std::vector<Wanted>& wanted,
                                                    const ProgressCallback& progress) {
  const Stopwatch clock;
  last_uses_.clear();
  last_build_ms_ = 0;
  std::vector<Entry*> in_use;
  for (const Wanted& item : wanted) {
    Entry& entry = find_or_plan(item);
    in_use.push_back(&entry);
    last_uses_.push_back({.component = entry.key.component,
                          .plan = entry.source.plan,
                          .origin = entry.source.origin,
                          .file = entry.source.file,
                          .build_ms = entry.source.build_ms});
    entry.source.build_ms = 0;  // counted once
  }
  const double plan_ms = clock.ms();
  forget_old(in_use);
  last_load_ms_ = 0;
  if (options_.one_at_a_time) return {};
  std::vector<runtime::Executor*> executors = load(in_use, progress);
  last_load_ms_ = clock.ms() - plan_ms;
  return executors;
}

std::vector<runtime::Executor*> Components::load_only(const std::vector<Wanted>& wanted,
                                                      const ProgressCallback& progress) {
  const Stopwatch clock;
  std::vector<Entry*> in_use;
  for (const Wanted& item : wanted) in_use.push_back(&find_or_plan(item));
  remember();
  for (Entry& entry : entries_) {
    if (std::ranges::find(in_use, &entry) == in_use.end()) entry.executor.reset();
  }
  std::erase_if(constants_, [&](const auto& item) {
    return std::ranges::none_of(
        in_use, [&](const Entry* entry) { return entry->key.component == item.first; });
  });
  const bool is_loaded =
      std::ranges::all_of(in_use, [](const Entry* entry) { return entry->executor != nullptr; });
  if (!is_loaded) {
    for (Entry* entry : in_use) entry->executor.reset();
    arena_.reset();
  }
  std::vector<runtime::Executor*> executors = load(in_use, progress);
  remember();
  last_load_ms_ += clock.ms();
  return executors;
}

uint64_t Components::bytes_of(const Entry& entry) {
  constexpr uint64_t kAlignment = 256;
  const uint64_t bytes = entry.source.plan->profiles[entry.profile].arena_bytes;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Each of those that run together has a stream of its own, so that the common one can bring what
// follows them; a host's memory has one order.
bool Components::is_beside(const std::string& component) const {
  if (device_.info().host_visible_memory) return false;
  return std::ranges::find(options_.together, component) != options_.together.end();
}

uint64_t Components::arena_offset(const Entry& entry, const std::vector<Entry*>& in_use) const {
  if (!is_beside(entry.key.component)) return 0;
  uint64_t offset = 0;
  const auto own = std::ranges::find(options_.together, entry.key.component);
  for (auto later = own + 1; later != options_.together.end(); ++later) {
    for (const Entry* other : in_use) {
      if (other->key.component == *later) offset += bytes_of(*other);
    }
  }
  return offset;
}

std::vector<runtime::Executor*> Components::load(const std::vector<Entry*>& in_use,
                                                 const ProgressCallback& progress) {
  uint64_t arena_bytes = 0;
  for (const Entry* entry : in_use) {
    arena_bytes = std::max(arena_bytes, arena_offset(*entry, in_use) + bytes_of(*entry));
  }
  grow_arena(arena_bytes);
  std::vector<runtime::Executor*> executors;
  for (Entry* entry : in_use) {
    const std::string& component = entry->key.component;
    auto& constants = constants_[component];
    if (!constants) constants = std::make_shared<runtime::ConstantStore>();
    if (!entry->executor) {
      runtime::CallObserver observer;
      if (options_.observer) {
        observer = [this, component](const runtime::ObservedCall& call) {
          options_.observer(component, call);
        };
      }
      std::shared_ptr<runtime::ConstantCache> cache;
      if (!entry->source.constants_file.empty()) {
        cache = std::make_shared<runtime::ConstantCache>(
            entry->source.constants_file, entry->source.constants_identity, options_.logger);
      }
      entry->executor = std::make_unique<runtime::Executor>(
          entry->source.plan, entry->profile, device_, *entry->source.weights,
          runtime::ExecutorOptions{.arena = arena_,
                                   .arena_offset = arena_offset(*entry, in_use),
                                   .constants = constants,
                                   .constant_cache = std::move(cache),
                                   .profile = options_.profile,
                                   .record = options_.record,
                                   .observer = std::move(observer),
                                   .beside = is_beside(component),
                                   .progress = progress});
    }
    executors.push_back(entry->executor.get());
  }
  return executors;
}

void Components::remember() {
  const auto total = [](const runtime::MemoryReport& memory) {
    return memory.constant_bytes + memory.persistent_bytes + memory.arena_bytes +
           memory.schedule_bytes;
  };
  const runtime::MemoryReport now = held();
  if (total(now) > total(most_held_)) most_held_ = now;
  for (const auto& [component, constants] : constants_) {
    const runtime::MemoryReport one = held_by(component);
    if (total(one) > total(remembered_[component])) remembered_[component] = one;
  }
}

runtime::MemoryReport Components::memory() const {
  return options_.one_at_a_time ? most_held_ : held();
}

runtime::MemoryReport Components::memory_of(const std::string& component) const {
  const auto found = remembered_.find(component);
  return found == remembered_.end() ? held_by(component) : found->second;
}

runtime::MemoryReport Components::held() const {
  runtime::MemoryReport sum;
  for (const auto& [name, constants] : constants_) sum.constant_bytes += constants->num_bytes();
  if (arena_) sum.arena_bytes = arena_->size();
  for (const Entry& entry : entries_) {
    if (!entry.executor) continue;
    const runtime::MemoryReport one = entry.executor->memory();
    sum.persistent_bytes += one.persistent_bytes;
    sum.schedule_bytes += one.schedule_bytes;
  }
  return sum;
}

runtime::MemoryReport Components::held_by(const std::string& component) const {
  runtime::MemoryReport sum;
  if (const auto found = constants_.find(component); found != constants_.end()) {
    sum.constant_bytes = found->second->num_bytes();
  }
  for (const Entry& entry : entries_) {
    if (!entry.executor || entry.key.component != component) continue;
    const runtime::MemoryReport one = entry.executor->memory();
    sum.persistent_bytes += one.persistent_bytes;
    sum.schedule_bytes += one.schedule_bytes;
    sum.arena_bytes = std::max(sum.arena_bytes, one.arena_bytes);
  }
  return sum;
}

std::map<std::string, std::vector<runtime::CallTime>> Components::times() const {
  std::map<std::string, std::vector<runtime::CallTime>> result;
  for (const Entry& entry : entries_) {
    if (!entry.executor) continue;
    auto times = entry.executor->times();
    auto& all = result[entry.key.component];
    all.insert(all.end(), std::make_move_iterator(times.begin()),
               std::make_move_iterator(times.end()));
  }
  return result;
}

}  // namespace halftone::pipeline
