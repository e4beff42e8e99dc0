#include "args.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include <fmt/format.h>

#include "halftone/near_miss.h"

namespace halftone::cli {
namespace {

std::string nearest_option(const CLI::App& app, std::string_view name) {
  std::vector<std::string_view> names;
  for (const CLI::Option* option : app.get_options()) {
    names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
  }
  return std::string(near_miss(name, names));
}

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

bool is_boolean(std::string_view text) {
  return text == "true" || text == "false" || text == "1" || text == "0";
}

// What a flag is set to in the environment or a configuration file; `where` names it in messages.
bool truth(const std::string& text, const std::string& where) {
  std::string word = text;
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
  if (word == "true" || word == "1" || word == "on" || word == "yes") return true;
  if (word == "false" || word == "0" || word == "off" || word == "no") return false;
  throw UsageError(fmt::format("{}: got '{}', wanted true or false", where, text));
}

bool looks_like_option(std::string_view token) {
  if (token.size() < 2 || token[0] != '-') return false;
  return token[1] == '-' ? token.size() > 2
                         : std::isalpha(static_cast<unsigned char>(token[1])) != 0;
}

std::string environment_name(const std::string& option) {
  std::string name = "HALFTONE_";
  for (const char c : option) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

template <class Entry>
const Entry* find_flag(std::span<const Entry> table, std::string_view name) {
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const Entry& entry) { return entry.flag == name; });
  return found == table.end() ? nullptr : &*found;
}

// Options of which one at most has a meaning, where there is no `rival` for all their values: the
// stronger source's sets the weaker's aside, as it does with the same option (with `only_b` only
// b's is, by a). Two that are left are refused by whoever reads them.
struct Rivals {
  std::string_view a, b;
  bool (*rival)(std::string_view value_a, std::string_view value_b) = nullptr;
  bool only_b = false;
};
constexpr Rivals kRivals[] = {
    {"--model", "--version"},
    {"--plan", "--engine-dir"},
    {"--size", "--width"},
    {"--size", "--height"},
    {"--negative-prompt", "--negative-prompt-file"},
    {"--steps", "--timesteps"},
    {"--steps", "--sigmas"},
    {"--steps", "--n-steps"},
    {"--timesteps", "--sigmas"},
    {"--timesteps", "--sigma-schedule"},
    {"--sigmas", "--sigma-schedule"},
    {"--split-shortcut", "--no-split-shortcut"},
    {"--bos-aware", "--no-bos-aware"},
    {"--precision", "--quant-type", differ_in_format},
    {"--recipe", "--quant-type"},
    {"--recipe", "--quantize-config"},
    {"--recipe", "--quantization-level", nullptr, true},
    {"--recipe", "--quant-algo", nullptr, true},
    {"--recipe", "--alpha", nullptr, true},
    {"--recipe", "--activations", nullptr, true},
    {"--recipe", "--static-min-sqnr", nullptr, true},
    {"--recipe", "--attention", nullptr, true},
    {"--recipe", "--split-shortcut", nullptr, true},
    {"--recipe", "--no-split-shortcut", nullptr, true},
    {"--recipe", "--bos-aware", nullptr, true},
    {"--recipe", "--no-bos-aware", nullptr, true},
};

class Preparer {
  using Given = std::map<const CLI::Option*, std::string>;  // options and their first value

 public:
  Preparer(const CLI::App& app, std::string_view verb, std::span<const std::string> typed,
           const Spelling& spelling)
      : app_(app), verb_(verb), typed_(typed), spelling_(spelling) {}

  ParsedArgs run() {
    while (next_ < typed_.size()) {
      const std::string& token = typed_[next_++];
      if (token == "--") {
        positionals_.insert(positionals_.end(), typed_.begin() + static_cast<std::ptrdiff_t>(next_),
                            typed_.end());
        break;
      }
      if (token.size() > 2 && token.starts_with("--")) {
        long_option(token);
      } else if (looks_like_option(token)) {
        short_options(token);
      } else {
        positionals_.push_back(token);
      }
    }
    give_fixed("");
    add_environment();
    add_config();
    result_.args.push_back("--");
    result_.args.insert(result_.args.end(), positionals_.begin(), positionals_.end());
    return std::move(result_);
  }

 private:
  void long_option(const std::string& token) {
    const size_t equals = token.find('=');
    const std::string name =
        normalise_name(token.substr(2, equals == std::string::npos ? equals : equals - 2));
    std::optional<std::string> value;
    if (equals != std::string::npos) value = token.substr(equals + 1);
    const std::string flag = "--" + name;

    if (const FixedAlias* alias = find_flag(spelling_.fixed, flag)) {
      take_boolean(value);
      if (value && (*value == "false" || *value == "0")) return;
      choose_fixed(*alias);
      return;
    }
    const bool has_option = app_.get_option_no_throw(flag) != nullptr;
    if (const NotedFlag* noted = find_flag(spelling_.noted, flag); noted && !has_option) {
      if (noted->has_value && !value) value = need_value(flag);
      if (!noted->has_value) take_boolean(value);
      result_.notes.push_back(fmt::format("{}: {}", flag, noted->note));
      return;
    }
    if (!has_option) refuse_known(flag, "");
    const CLI::Option& option = option_of(name);
    if (name == "json" && !value) value = "-";
    if (is_flag(option)) {
      take_boolean(value);
      give_flag(option, name, value.value_or("true"));
    } else {
      give(option, value ? *value : need_value(flag));
    }
  }

  void choose_fixed(const FixedAlias& alias) {
    const FixedAlias*& chosen = fixed_[alias.option];
    if (chosen == nullptr || chosen < &alias) chosen = &alias;
  }

  // Gives the options that fixed aliases stand for; `where` they were found, for messages.
  void give_fixed(const std::string& where) {
    for (const auto& [name, alias] : fixed_) {
      const CLI::Option& option = option_of(std::string(name.substr(2)));
      const auto found = given_.find(&option);
      if (found == given_.end()) {
        give(option, std::string(alias->value));
      } else if (found->second != alias->value) {
        throw UsageError(fmt::format("{}{} {} and {} both set the {}; give one", where, name,
                                     found->second, alias->flag, name.substr(2)));
      }
    }
    fixed_.clear();
  }

  void refuse_known(const std::string& flag, const std::string& where) const {
    const RefusedFlag* refused = find_flag(spelling_.refused, flag);
    if (refused == nullptr) return;
    throw UsageError(fmt::format("{}not supported: {}: {}", where, flag, refused->reason),
                     {.key = flag, .remedy = std::string(refused->reason)});
  }

  // "-m x", "-mx", "-vv".
  void short_options(const std::string& token) {
    for (size_t i = 1; i < token.size(); ++i) {
      const std::string letter(1, token[i]);
      const CLI::Option* option = app_.get_option_no_throw("-" + letter);
      if (option == nullptr) {
        const std::string remedy = fmt::format("'halftone {} --help' lists them", verb_);
        throw UsageError(fmt::format("unknown option '-{}' in '{}'; {}", letter, token, remedy),
                         {.key = "-" + letter, .remedy = remedy});
      }
      if (is_flag(*option)) {
        given_.emplace(option, "true");
        result_.args.push_back("-" + letter);
        continue;
      }
      give(*option, i + 1 < token.size() ? token.substr(i + 1) : need_value("-" + letter));
      return;
    }
  }

  const CLI::Option& option_of(const std::string& name) const {
    if (const CLI::Option* option = app_.get_option_no_throw("--" + name)) return *option;
    const std::string nearest = nearest_option(app_, name);
    const std::string hint = nearest.empty()
                                 ? fmt::format("'halftone {} --help' lists the options", verb_)
                                 : fmt::format("did you mean '--{}'?", nearest);
    throw UsageError(fmt::format("unknown option '--{}' for {}; {}", name, verb_, hint),
                     {.key = "--" + name, .remedy = hint});
  }

  std::string need_value(const std::string& flag) {
    if (next_ >= typed_.size()) throw UsageError(fmt::format("{} needs a value", flag));
    const std::string& token = typed_[next_];
    if (token.size() > 2 && token.starts_with("--") &&
        app_.get_option_no_throw("--" + normalise_name(token.substr(2))) != nullptr) {
      throw UsageError(fmt::format("{} needs a value, got the option '{}'", flag, token));
    }
    return typed_[next_++];
  }

  // "--flag 1" as other tools write it.
  void take_boolean(std::optional<std::string>& value) {
    if (!value && next_ < typed_.size() && is_boolean(typed_[next_])) value = typed_[next_++];
  }

  void give(const CLI::Option& option, const std::string& value) {
    const std::string flag = "--" + option.get_lnames().front();
    const auto [first, is_first] = given_.emplace(&option, value);
    if (!is_first && option.get_items_expected_max() == 1) {
      throw UsageError(fmt::format("{}: got {} and {}; give one", flag, first->second, value));
    }
    result_.args.push_back(flag);
    result_.args.push_back(value);
  }

  void give_flag(const CLI::Option& option, const std::string& name, const std::string& value) {
    if (!is_boolean(value)) {
      throw UsageError(fmt::format("--{}: got '{}', wanted true, false, 1 or 0", name, value));
    }
    given_.emplace(&option, value);
    const bool on = value == "true" || value == "1";
    result_.args.push_back(fmt::format("--{}={}", name, on ? "true" : "false"));
  }

  // From the environment or a configuration file, where `where` names it.
  void give_any(const CLI::Option& option, const std::string& name, const std::string& value,
                const std::string& where) {
    if (is_flag(option)) {
      give_flag(option, name, truth(value, where) ? "true" : "false");
    } else if (name != "json" || !is_boolean(value)) {
      give(option, value);
    } else if (truth(value, where)) {
      give(option, "-");
    }
  }

  // Whether a stronger source gave this option, or one that `value` would contradict.
  bool is_settled(const CLI::Option& option, std::string_view value, const Given& stronger) const {
    if (stronger.contains(&option)) return true;
    // Whether the stronger source gave `name`, with a value that `rivals` says so of.
    const auto gave = [&](std::string_view name, const auto& is_rival) {
      const auto found = stronger.find(app_.get_option_no_throw(std::string(name)));
      return found != stronger.end() && is_rival(found->second);
    };
    return std::ranges::any_of(kRivals, [&](const Rivals& r) {
      if (!r.only_b && option.check_name(std::string(r.a))) {
        return gave(r.b, [&](std::string_view b) { return !r.rival || r.rival(value, b); });
      }
      return option.check_name(std::string(r.b)) &&
             gave(r.a, [&](std::string_view a) { return !r.rival || r.rival(a, value); });
    });
  }

  void add_environment() {
    const Given typed = given_;
    for (const FixedAlias& alias : spelling_.fixed) {
      const std::string name = environment_name(std::string(alias.flag.substr(2)));
      const char* value = std::getenv(name.c_str());
      if (value == nullptr || *value == '\0' || !truth(value, name)) continue;
      const CLI::Option& meant = option_of(std::string(alias.option.substr(2)));
      if (!is_settled(meant, alias.value, typed)) choose_fixed(alias);
    }
    for (const CLI::Option* option : app_.get_options()) {
      if (option->get_lnames().empty()) continue;
      const std::string& name = option->get_lnames().front();
      if (name == "help") continue;
      const std::string variable = environment_name(name);
      const char* value = std::getenv(variable.c_str());
      if (value == nullptr || *value == '\0' || is_settled(*option, value, typed)) continue;
      give_any(*option, name, value, variable);
    }
    give_fixed("the environment: ");
  }

  static std::string read_config(const std::string& path) {
    constexpr size_t kMost = size_t{1} << 20;
    std::ifstream file(path, std::ios::binary);
    std::string text(kMost + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    // A folder opens and then cannot be read.
    if (!file.is_open() || file.bad()) {
      throw UsageError(fmt::format("--config {}: cannot be read", path));
    }
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kMost) throw UsageError(fmt::format("--config {}: longer than 1 MiB", path));
    return text;
  }

  void add_config() {
    const auto at = std::find(result_.args.begin(), result_.args.end(), "--config");
    if (at == result_.args.end() || at + 1 == result_.args.end()) return;
    const std::string path = *(at + 1);
    std::istringstream text(read_config(path));
    std::vector<CLI::ConfigItem> items;
    try {
      items = CLI::ConfigTOML().from_config(text);
    } catch (const CLI::Error& error) {
      throw UsageError(fmt::format("--config {}: {}", path, error.what()));
    }
    const std::string in_file = fmt::format("--config {}: ", path);
    const Given stronger = given_;
    for (const CLI::ConfigItem& item : items) {
      if (item.name == "++" || item.name == "--") continue;  // section marks of CLI11
      if (!item.parents.empty() && item.parents.front() != verb_) continue;
      const std::string name = normalise_name(item.name);
      const CLI::Option* option = app_.get_option_no_throw("--" + name);
      const std::string where = in_file + item.name;
      if (const FixedAlias* alias = find_flag(spelling_.fixed, "--" + name)) {
        const bool is_on = !item.inputs.empty() && truth(item.inputs.back(), where);
        const CLI::Option& meant = option_of(std::string(alias->option.substr(2)));
        if (is_on && !is_settled(meant, alias->value, stronger)) choose_fixed(*alias);
        continue;
      }
      if (option == nullptr) {
        refuse_known("--" + name, in_file);
        const std::string nearest = nearest_option(app_, name);
        throw UsageError(
            fmt::format("--config {}: unknown key '{}'{}", path, item.name,
                        nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
      }
      for (const std::string& value : item.inputs) {
        if (!is_settled(*option, value, stronger)) give_any(*option, name, value, where);
      }
    }
    give_fixed(in_file);
  }

  const CLI::App& app_;
  std::string_view verb_;
  std::span<const std::string> typed_;
  const Spelling& spelling_;
  size_t next_ = 0;
  std::map<std::string_view, const FixedAlias*> fixed_;  // by option
  Given given_;
  std::vector<std::string> positionals_;
  ParsedArgs result_;
};

}  // namespace

std::string normalise_name(std::string_view name) {
  std::string result(name);
  std::replace(result.begin(), result.end(), '_', '-');
  return result;
}

bool differ_in_format(std::string_view precision, std::string_view scheme) {
  return (precision == "int8" && scheme.starts_with("fp8")) ||
         (precision == "fp8" && scheme.starts_with("int"));
}

ParsedArgs prepare_args(const CLI::App& app, std::string_view verb,
                        std::span<const std::string> typed, const Spelling& spelling) {
  return Preparer(app, verb, typed, spelling).run();
}

bool is_typed(const CLI::Option& option, std::span<const std::string> typed) {
  const auto names_it = [&](const std::string& token) {
    if (!looks_like_option(token)) return false;
    if (token[1] != '-') return option.check_sname(token.substr(1, 1));
    return option.check_lname(normalise_name(token.substr(2, token.find('=') - 2)));
  };
  return std::any_of(typed.begin(), std::ranges::find(typed, "--"), names_it);
}

namespace {

// NaN lies in every range, and is neither above nor below what it is compared with.
void refuse_nan(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_type_name().starts_with("FLOAT")) continue;
    for (const std::string& value : option->results()) {
      if (!std::isnan(std::strtod(value.c_str(), nullptr))) continue;
      throw UsageError(fmt::format("{}: got {}, wanted a number", option->get_name(), value));
    }
  }
}

}  // namespace

bool parse(CLI::App& app, std::string_view verb, std::span<const std::string> typed,
           const Spelling& spelling, std::vector<std::string>& notes) {
  for (const std::string& token : typed) {
    if (token == "--") break;
    if (token == "--help" || token == "-h") {
      fmt::print("{}", app.help());
      return false;
    }
  }
  ParsedArgs prepared = prepare_args(app, verb, typed, spelling);
  notes = std::move(prepared.notes);
  std::reverse(prepared.args.begin(), prepared.args.end());  // CLI11 takes them from the back
  try {
    app.parse(prepared.args);
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
  refuse_nan(app);
  return true;
}

}  // namespace halftone::cli
