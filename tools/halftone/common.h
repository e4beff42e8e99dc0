// What every verb shares: common options, messages, progress, JSON output, signals.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "halftone/error.h"
#include "halftone/log.h"

#include "args.h"

namespace halftone::cli {

// Exit codes that no Errc stands for.
inline constexpr int kExitUsage = 2;
inline constexpr int kExitQualityGate = 7;
inline constexpr int kExitInterrupted = 130;
inline constexpr int kExitTerminated = 143;

struct CommonOptions {
  std::string device = "auto";
  int threads = 0;
  std::string cache_dir;
  std::string json;  // "-" = stdout, else a file; empty = text
  std::string progress = "auto";
  std::string config;
  std::string log_level = "info";
  std::string log_file;
  bool log_jsonl = false;
  std::string log_colors = "auto";
  std::string hf_cache;
  std::string models_dir;
  int verbose = 0;
  bool quiet = false;
  bool list_devices = false;
};

// Adds the options; their values are meaningful after parse() and finish_common().
void add_common(CLI::App& app, CommonOptions& common);
// Fills defaults that come from the environment (cache folders).
void finish_common(CommonOptions& common);

// Writes messages of the library and of the command to stderr or --log-file.
[[nodiscard]] Logger make_logger(const CommonOptions& common);

// Shows progress on stderr: a bar on a terminal, plain lines otherwise, one JSON object a line for
// "json". Returns false once a signal has asked to stop.
[[nodiscard]] ProgressCallback make_progress(const CommonOptions& common);

// SIGINT and SIGTERM ask running work to stop; a second one ends the process at once.
void install_signal_handlers();
// The signal that asked to stop, or 0.
[[nodiscard]] int stop_signal();

// The JSON of a result: to stdout or to the file of --json.
void write_json(const CommonOptions& common, const std::string& json);
[[nodiscard]] inline bool json_on_stdout(const CommonOptions& common) { return common.json == "-"; }

// One verb's command line, ready to parse.
struct VerbCall {
  std::string_view name;
  CLI::App& app;
  std::span<const std::string> args;
  const Spelling& spelling;
};
// Parses, installs signal handlers, logs the notes and does the work; failures become a message and
// an exit code. --help prints and does nothing.
int run_verb(const VerbCall& call, CommonOptions& common, const std::function<void()>& work);

// Text for a JSON string, quotes included.
[[nodiscard]] std::string json_string(std::string_view text);
[[nodiscard]] std::string environment(const char* name);

// The whole text as a finite number; throws UsageError naming the flag.
[[nodiscard]] double parse_number(std::string_view text, std::string_view flag);

}  // namespace halftone::cli
