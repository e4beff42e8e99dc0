#include "process.h"

#include <fstream>
#include <iterator>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace halftone::cli_test {

namespace fs = std::filesystem;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string golden(const std::string& name) {
  return std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/" + name;
}

pid_t Scratch::start(const std::vector<std::string>& args, const std::string& input,
                     const Environment& environment, const Limits& limits) const {
  std::ofstream(path(".stdin"), std::ios::binary) << input;
  const pid_t process = ::fork();
  if (process != 0) return process;
  if (::chdir(folder().c_str()) != 0) _exit(99);
  const auto redirect = [&](const char* name, int flags, int target) {
    const int fd = ::open(path(name).c_str(), flags, 0600);
    ::dup2(fd, target);
    ::close(fd);
  };
  redirect(".stdin", O_RDONLY, 0);
  redirect(".stdout", O_WRONLY | O_CREAT | O_TRUNC, 1);
  redirect(".stderr", O_WRONLY | O_CREAT | O_TRUNC, 2);
  ::setenv("XDG_CACHE_HOME", path("cache").c_str(), 1);
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  if (limits.file_bytes > 0) {
    std::signal(SIGXFSZ, SIG_IGN);  // inherited: the write fails instead
    const rlimit limit = {limits.file_bytes, limits.file_bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  std::vector<std::string> words{HALFTONE_BINARY};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(HALFTONE_BINARY, argv.data());
  _exit(98);
}

Outcome Scratch::finish(pid_t process) const {
  int status = 0;
  ::waitpid(process, &status, 0);
  return {.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status),
          .out = slurp(path(".stdout")),
          .err = slurp(path(".stderr"))};
}

Outcome Scratch::run(const std::vector<std::string>& args, const std::string& input,
                     const Environment& environment) const {
  return finish(start(args, input, environment, {}));
}

Outcome Scratch::run_limited(const std::vector<std::string>& args, const Limits& limits) const {
  return finish(start(args, "", {}, limits));
}

Outcome Scratch::run_with(const std::vector<std::string>& args,
                          const std::function<void(pid_t, const fs::path&)>& meanwhile) const {
  const pid_t process = start(args, "", {}, {});
  meanwhile(process, path(".stderr"));
  return finish(process);
}

}  // namespace halftone::cli_test
