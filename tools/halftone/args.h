// From what a user typed to what CLI11 parses: spellings of other tools, environment, configuration
// file. CLI11 then converts values, checks ranges and prints help.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "halftone/error.h"

namespace halftone::cli {

// A wrong command line: exit code 2.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message, ErrorDetails details = {})
      : Error(Errc::kInvalidArgument, message, std::move(details)) {}
};

// A flag of another tool that stands for an option with a fixed value: "--bf16" = "--precision
// bf16". Of several for one option the last row of the table counts: trtexec's flags each allow a
// precision, and the smallest that is allowed is taken.
struct FixedAlias {
  std::string_view flag, option, value;
};
// A flag of another tool, or of a later version, that cannot be honoured by verbs that have no such
// option.
struct RefusedFlag {
  std::string_view flag;
  std::string_view reason;  // ends with what to do instead
};
// A flag that changes nothing in verbs that have no such option; the note is logged once. Takes a
// value when `has_value`.
struct NotedFlag {
  std::string_view flag;
  bool has_value;
  std::string_view note;
};

struct Spelling {
  std::span<const FixedAlias> fixed;
  std::span<const RefusedFlag> refused;
  std::span<const NotedFlag> noted;
};

// Whether one of the values of --precision and --quant-type is of integers, the other of FP8.
[[nodiscard]] bool differ_in_format(std::string_view precision, std::string_view scheme);

// `_` becomes `-` in the name of a long option.
[[nodiscard]] std::string normalise_name(std::string_view name);

// Arguments in the order CLI11 wants them: "--name", "value", ..., "--", positionals. Options that
// the user did not give are taken from the environment (HALFTONE_<NAME>), then from --config FILE,
// whose section [verb] belongs to `verb`; those that contradict what was given are left out, too.
// Unknown options throw UsageError naming the nearest one.
struct ParsedArgs {
  std::vector<std::string> args;
  std::vector<std::string> notes;
};
[[nodiscard]] ParsedArgs prepare_args(const CLI::App& app, std::string_view verb,
                                      std::span<const std::string> typed, const Spelling& spelling);

// Whether this option stands on the command line: the environment and a configuration file serve
// several verbs, so that one which does nothing with it is no reason to refuse theirs.
[[nodiscard]] bool is_typed(const CLI::Option& option, std::span<const std::string> typed);

// Parses; help is printed to stdout. Returns false when the verb has nothing left to do (help).
// Throws UsageError.
[[nodiscard]] bool parse(CLI::App& app, std::string_view verb, std::span<const std::string> typed,
                         const Spelling& spelling, std::vector<std::string>& notes);

}  // namespace halftone::cli
