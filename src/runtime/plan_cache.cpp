#include "runtime/plan_cache.h"

#include <chrono>
#include <system_error>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "halftone/error.h"

#include "base/file.h"

namespace halftone::runtime {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLockTimeoutMs = 120'000;  // far above the time of a build

// Empty when the folder can be trusted, else why not.
std::string distrust(const fs::path& folder) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return "cannot be read";
  if (!S_ISDIR(info.st_mode)) return "is no folder";
  if (info.st_uid != ::geteuid()) return "belongs to another user";
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "may be written by other users";
  return {};
}

// Names of files must not leave the folder, whatever the readable part holds.
std::string safe_name(const std::string& name) {
  std::string safe;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.';
    safe += plain ? c : '_';
  }
  return safe;
}

void set_aside(const fs::path& file, const Logger& logger, std::string_view reason) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  const fs::path aside = file.string() + fmt::format(".corrupt-{}", seconds);
  std::error_code failed;
  fs::rename(file, aside, failed);
  log(logger, LogLevel::kWarning, "cache",
      fmt::format("{}: {}; set aside as {} and built again", file.string(), reason,
                  aside.filename().string()));
}

// The entry when it is whole and of this fingerprint; a damaged one is set aside.
std::shared_ptr<const Plan> read_entry(const fs::path& file, const Fingerprint& wanted,
                                       const Logger& logger) {
  std::error_code failed;
  if (!fs::exists(file, failed)) return nullptr;
  try {
    auto plan = load_plan(file);
    if (plan->fingerprint.hash() == wanted.hash()) return plan;
    log(logger, LogLevel::kDebug, "cache",
        fmt::format("{}: holds another plan; it is replaced", file.string()));
  } catch (const Error& error) {
    if (error.code() == Errc::kNotFound) return nullptr;  // removed in between
    if (error.code() != Errc::kCorruptFile && error.code() != Errc::kIncompatiblePlan) throw;
    set_aside(file, logger, error.what());
  }
  return nullptr;
}

}  // namespace

std::string PlanCache::file_name(const Fingerprint& fingerprint, const std::string& readable_name) {
  return fmt::format("{}-{}.plan", safe_name(readable_name), fingerprint.hash().substr(0, 8));
}

PlanCache::PlanCache(fs::path folder, Logger logger)
    : folder_(std::move(folder)), logger_(std::move(logger)) {
  if (folder_.empty()) return;
  std::error_code failed;
  if (fs::create_directories(folder_, failed)) {
    fs::permissions(folder_, fs::perms::owner_all, failed);
  }
  const std::string reason = distrust(folder_);
  if (reason.empty()) return;
  log(logger_, LogLevel::kWarning, "cache",
      fmt::format("{}: {}; plans are not kept", folder_.string(), reason));
  folder_.clear();
}

PlanCache::Found PlanCache::get(const Fingerprint& wanted, const std::string& readable_name,
                                const std::function<Plan()>& build) {
  if (folder_.empty()) return {std::make_shared<const Plan>(build()), false, {}};
  const fs::path file = folder_ / file_name(wanted, readable_name);
  if (auto plan = read_entry(file, wanted, logger_)) return {std::move(plan), true, file};

  std::optional<FileLock> lock;
  try {
    lock = FileLock::acquire(file.string() + ".lock", kLockTimeoutMs);
  } catch (const Error& error) {  // a read-only folder: build without keeping
    log(logger_, LogLevel::kWarning, "cache", error.what());
  }
  if (auto plan = read_entry(file, wanted, logger_)) return {std::move(plan), true, file};
  auto plan = std::make_shared<const Plan>(build());
  try {
    save_plan(*plan, file);
  } catch (const Error& error) {
    log(logger_, LogLevel::kWarning, "cache", fmt::format("plan not kept: {}", error.what()));
    return {std::move(plan), false, {}};
  }
  return {std::move(plan), false, file};
}

}  // namespace halftone::runtime
