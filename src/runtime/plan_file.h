// The plan file: docs/plan_format.md. Little endian, versioned, checked before use.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "runtime/plan.h"

namespace halftone::runtime {

inline constexpr uint32_t kPlanFormatVersion = 1;

[[nodiscard]] std::vector<std::byte> serialize(const Plan& plan);
// Checks size, magic, version, header CRC, section table, section hashes, then the meaning (ids in
// range, shapes recomputed, views and offsets inside their regions, live slots not overlapping).
// Throws kCorruptFile, or kIncompatiblePlan for another format version; `origin` names the file in
// messages.
[[nodiscard]] Plan deserialize(std::span<const std::byte> bytes, const std::string& origin);

void save_plan(const Plan& plan, const std::filesystem::path& file);  // atomic
[[nodiscard]] std::shared_ptr<const Plan> load_plan(const std::filesystem::path& file);
// By its first bytes. Throws as File.
[[nodiscard]] bool is_plan_file(const std::filesystem::path& file);
// The .plan files of a folder, by name. Throws kNotFound or kIo.
[[nodiscard]] std::vector<std::filesystem::path> plans_in(const std::filesystem::path& folder);

// Semantic checks of deserialize on a plan in memory (also run on every plan that the compiler
// makes).
void check_plan(const Plan& plan, const std::string& origin);
// Throws kIncompatiblePlan naming plan's and device's value when the plan was built for another
// device, library version or kernel table.
void check_fits(const Plan& plan, const backend::DeviceInfo& device,
                std::span<const backend::Kernel* const> kernels, const std::string& origin);

}  // namespace halftone::runtime
