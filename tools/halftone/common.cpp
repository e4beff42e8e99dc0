#include "common.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <set>

#include <fmt/format.h>
#include <unistd.h>

#include "verbs.h"

namespace halftone::cli {
namespace {

volatile std::sig_atomic_t g_stop_signal = 0;

extern "C" void on_signal(int signal) {
  if (g_stop_signal != 0) _exit(128 + signal);
  g_stop_signal = signal;
}

bool is_terminal() { return isatty(STDERR_FILENO) != 0; }

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

std::string_view level_color(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "\033[2m";
    case LogLevel::kInfo:
      return "";
    case LogLevel::kWarning:
      return "\033[33m";
    case LogLevel::kError:
      return "\033[31m";
  }
  return "";
}

LogLevel threshold(const CommonOptions& common) {
  if (common.quiet) return LogLevel::kError;
  if (common.verbose > 0 || common.log_level == "debug") return LogLevel::kDebug;
  if (common.log_level == "warning") return LogLevel::kWarning;
  if (common.log_level == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

bool use_colors(const CommonOptions& common) {
  if (common.log_colors != "auto") return common.log_colors == "on";
  return common.log_file.empty() && is_terminal() && environment("NO_COLOR").empty();
}

}  // namespace

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void add_common(CLI::App& app, CommonOptions& common) {
  app.set_help_flag("--help,-h", "Show this help");
  constexpr const char* kGroup = "Common";
  app.add_option("--device", common.device,
                 "auto (a GPU that can be used, else the CPU), cpu, cuda or cuda:N")
      ->group(kGroup);
  app.add_option("--threads,-t", common.threads, "Threads; 0 = all cores of this process")
      ->check(CLI::Range(0, 4096))
      ->group(kGroup);
  app.add_option("--cache-dir", common.cache_dir,
                 "Plan cache (default $XDG_CACHE_HOME/halftone or ~/.cache/halftone; 'none' = off)")
      ->group(kGroup);
  app.add_option("--json", common.json, "Results as JSON on stdout, or into FILE (--json=FILE)")
      ->group(kGroup);
  app.add_option("--progress", common.progress, "auto, bar, plain, json or none")
      ->check(CLI::IsMember({"auto", "bar", "plain", "json", "none"}))
      ->group(kGroup);
  app.add_option("--config", common.config, "TOML or INI file with option values")->group(kGroup);
  app.add_flag("--verbose,-v", common.verbose, "More messages")->group(kGroup);
  app.add_flag("--quiet,-q", common.quiet, "Errors only")->group(kGroup);
  app.add_option("--log-level", common.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->group(kGroup);
  app.add_option("--log-file", common.log_file, "Append messages to a file")->group(kGroup);
  app.add_flag("--log-jsonl", common.log_jsonl, "Messages as one JSON object a line")
      ->group(kGroup);
  app.add_option("--log-colors", common.log_colors, "auto, on or off")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->group(kGroup);
  app.add_flag("--list-devices", common.list_devices, "As 'halftone devices'")->group(kGroup);
  app.add_option("--models-dir", common.models_dir, "Folder searched for models by name")
      ->group(kGroup);
}

void finish_common(CommonOptions& common) {
  const std::string home = environment("HOME");
  std::string xdg = environment("XDG_CACHE_HOME");
  if (xdg.empty() && !home.empty()) xdg = home + "/.cache";
  if (common.cache_dir.empty() && !xdg.empty()) common.cache_dir = xdg + "/halftone";
  if (common.cache_dir == "none") common.cache_dir.clear();

  common.hf_cache = environment("HF_HUB_CACHE");
  const std::string hf_home = environment("HF_HOME");
  if (common.hf_cache.empty() && !hf_home.empty()) common.hf_cache = hf_home + "/hub";
  if (common.hf_cache.empty() && !xdg.empty()) common.hf_cache = xdg + "/huggingface/hub";
}

namespace {

// Whether this warning was given before: by another session, component or prompt.
bool is_repeated(std::string_view warning) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> given;
  const std::scoped_lock lock(mutex);
  return !given.emplace(warning).second;
}

}  // namespace

Logger make_logger(const CommonOptions& common) {
  std::shared_ptr<std::FILE> file;
  if (!common.log_file.empty()) {
    file = std::shared_ptr<std::FILE>(std::fopen(common.log_file.c_str(), "a"), [](std::FILE* f) {
      if (f != nullptr) std::fclose(f);
    });
    if (!file) throw UsageError(fmt::format("--log-file {}: cannot be opened", common.log_file));
  }
  const LogLevel least = threshold(common);
  const bool colors = use_colors(common);
  const bool jsonl = common.log_jsonl;
  return [=](LogLevel level, std::string_view component, std::string_view text) {
    if (level < least || (level == LogLevel::kWarning && is_repeated(text))) return;
    std::FILE* out = file ? file.get() : stderr;
    if (jsonl) {
      fmt::print(out, "{{\"level\":\"{}\",\"component\":{},\"text\":{}}}\n", level_name(level),
                 json_string(component), json_string(text));
    } else if (level == LogLevel::kInfo) {
      fmt::print(out, "{}\n", text);
    } else {
      fmt::print(out, "{}{}: {}{}\n", colors ? level_color(level) : "", level_name(level), text,
                 colors ? "\033[0m" : "");
    }
    std::fflush(out);
  };
}

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int stop_signal() { return g_stop_signal; }

namespace {

// Whole or not at all, by rename; a device, FIFO or open descriptor (/dev/null, >(jq)) is written
// to and stays what it is.
void write_text(const std::string& path, const std::string& text) {
  std::error_code failed;
  const bool is_file =
      !std::filesystem::exists(path, failed) || std::filesystem::is_regular_file(path, failed);
  const std::string target = is_file ? fmt::format("{}.tmp-{}", path, getpid()) : path;
  std::ofstream file(target);
  file << text;
  file.close();
  bool is_written = file.good();
  if (is_written && is_file) {
    std::filesystem::rename(target, path, failed);
    is_written = !failed;
  }
  if (is_written) return;
  if (is_file) std::remove(target.c_str());
  throw Error(Errc::kIo, fmt::format("{}: cannot be written", path));
}

}  // namespace

void write_json(const CommonOptions& common, const std::string& json) {
  if (json_on_stdout(common)) {
    fmt::print("{}\n", json);
    if (std::fflush(stdout) == 0) return;
    throw Error(Errc::kIo, "stdout: cannot be written");
  }
  write_text(common.json, json + '\n');
}

namespace {

// The known parts of a failure, as members of its JSON object.
std::string detail_members(const ErrorDetails* details) {
  if (details == nullptr) return "";
  std::string text;
  const auto add = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) text += fmt::format(",\"{}\":{}", name, json_string(value));
  };
  add("file", details->file);
  if (details->offset) text += fmt::format(",\"offset\":{}", *details->offset);
  add("key", details->key);
  add("expected", details->wanted);
  add("got", details->got);
  add("remedy", details->remedy);
  return text;
}

int report(const CommonOptions& common, std::string_view code, std::string_view message, int exit,
           const ErrorDetails* details = nullptr) {
  if (common.log_jsonl) {
    fmt::print(stderr, "{{\"level\":\"error\",\"component\":\"cli\",\"text\":{}}}\n",
               json_string(message));
  } else {
    fmt::print(stderr, "error: {}\n", message);
  }
  if (common.json.empty()) return exit;
  try {
    write_json(common,
               fmt::format("{{\"error\":{{\"code\":\"{}\",\"message\":{},\"exit_code\":{}{}}}}}",
                           code, json_string(message), exit, detail_members(details)));
  } catch (const std::exception& error) {
    if (message != error.what()) fmt::print(stderr, "error: {}\n", error.what());
  }
  return exit;
}

int report(const CommonOptions& common, const Error& error) {
  int exit = exit_code(error.code());
  if (error.code() == Errc::kCancelled) {
    exit = stop_signal() == SIGTERM ? kExitTerminated : kExitInterrupted;
  }
  return report(common, to_string(error.code()), error.what(), exit, error.details());
}

// --json decides how a failure of parsing is told, so it is looked for before.
std::string early_json(std::span<const std::string> args) {
  constexpr std::string_view kFlag = "--json";
  for (const std::string& arg : args) {
    if (arg == kFlag) return "-";
    if (arg.starts_with("--json=")) return arg.substr(kFlag.size() + 1);
  }
  const std::string variable = environment("HALFTONE_JSON");
  if (variable == "true" || variable == "1") return "-";
  return variable == "false" || variable == "0" ? "" : variable;
}

}  // namespace

int run_verb(const VerbCall& call, CommonOptions& common, const std::function<void()>& work) {
  common.json = early_json(call.args);
  try {
    std::vector<std::string> notes;
    if (!parse(call.app, call.name, call.args, call.spelling, notes)) return 0;
    finish_common(common);
    const Logger logger = make_logger(common);
    for (const std::string& note : notes) log(logger, LogLevel::kInfo, "cli", note);
    install_signal_handlers();
    if (common.list_devices) {
      print_devices(common);
    } else {
      work();
    }
    // Closed by who asked for no output; a full disk has cut it short.
    if (std::fflush(stdout) != 0 && errno != EBADF) {
      throw Error(Errc::kIo, "stdout: cannot be written");
    }
    return 0;
  } catch (const Error& error) {
    return report(common, error);
  } catch (const std::bad_alloc&) {
    return report(common, Error(Errc::kOutOfMemory, "out of memory on the host"));
  } catch (const std::exception& error) {
    return report(common, Error(Errc::kInternal, error.what()));
  }
}

std::string json_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        result += "\\\"";
        break;
      case '\\':
        result += "\\\\";
        break;
      case '\n':
        result += "\\n";
        break;
      case '\r':
        result += "\\r";
        break;
      case '\t':
        result += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          result += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        } else {
          result += c;
        }
    }
  }
  return result + '"';
}

double parse_number(std::string_view text, std::string_view flag) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    throw UsageError(fmt::format("{}: got '{}', wanted a number", flag, text));
  }
  return value;
}

}  // namespace halftone::cli
