// Runs the halftone binary in a scratch folder and keeps what it said.
#pragma once

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/folder.h"
#include "base/json.h"

namespace halftone::cli_test {

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

// A folder of its own per test, removed afterwards; also the working directory and cache of the
// runs.
class Scratch {
 public:
  [[nodiscard]] std::filesystem::path path(const std::string& name) const {
    return folder() / name;
  }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_.path(); }

  using Environment = std::map<std::string, std::string>;
  [[nodiscard]] Outcome run(const std::vector<std::string>& args, const std::string& input = "",
                            const Environment& environment = {}) const;
  // A system without room: writing beyond the limit fails as on a full disk.
  struct Limits {
    uint64_t file_bytes = 0;
  };
  [[nodiscard]] Outcome run_limited(const std::vector<std::string>& args,
                                    const Limits& limits) const;
  // Starts, calls `meanwhile` with the process id and the file that stderr goes to, then waits.
  [[nodiscard]] Outcome run_with(
      const std::vector<std::string>& args,
      const std::function<void(pid_t, const std::filesystem::path&)>& meanwhile) const;

 private:
  [[nodiscard]] pid_t start(const std::vector<std::string>& args, const std::string& input,
                            const Environment& environment, const Limits& limits) const;
  [[nodiscard]] Outcome finish(pid_t process) const;

  TemporaryFolder folder_;
};

using Words = std::vector<std::string>;
[[nodiscard]] Words operator+(Words a, const Words& b);
[[nodiscard]] bool contains(const std::string& text, const std::string& part);

[[nodiscard]] std::string slurp(const std::filesystem::path& path);
[[nodiscard]] std::string golden(const std::string& name);  // tests/golden/<name>

}  // namespace halftone::cli_test
