// halftone completion: scripts that ask the command itself for its words.
#include <fmt/format.h>

#include "verbs.h"

namespace halftone::cli {
namespace {

constexpr std::string_view kBash =
    R"sh(# bash completion for halftone: source <(halftone completion bash)
_halftone() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{verbs} --help --version" -- "$cur"))
  elif [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$(halftone "${{COMP_WORDS[1]}}" --help 2>/dev/null |
      grep -oE -- '--[A-Za-z0-9-]+' | sort -u)" -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}}
complete -o filenames -F _halftone halftone
)sh";

constexpr std::string_view kZsh = R"sh(#compdef halftone
# zsh completion for halftone: halftone completion zsh > "${{fpath[1]}}/_halftone"
_halftone() {{
  if (( CURRENT == 2 )); then
    compadd {verbs} --help --version
  elif [[ "$words[CURRENT]" == -* ]]; then
    compadd -- $(halftone "$words[2]" --help 2>/dev/null | grep -oE -- '--[A-Za-z0-9-]+' | sort -u)
  else
    _files
  fi
}}
compdef _halftone halftone
)sh";

constexpr std::string_view kFish =
    R"sh(# fish completion for halftone: halftone completion fish | source
complete -c halftone -n '__fish_use_subcommand' -f -a '{verbs}'
complete -c halftone -n 'not __fish_use_subcommand' -a '(halftone (commandline -opc)[2] --help 2>/dev/null | string match -ra -- "--[A-Za-z0-9-]+" | sort -u)'
)sh";

}  // namespace

int run_completion(Args args) {
  CommonOptions common;
  std::string shell;
  CLI::App app("Prints a shell completion script.", "halftone completion");
  app.add_option("shell", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  add_common(app, common);
  return run_verb({"completion", app, args, {}}, common, [&] {
    std::string names;
    for (const Verb& verb : verbs()) {
      names += fmt::format("{}{}", names.empty() ? "" : " ", verb.name);
    }
    const std::string_view script = shell == "bash" ? kBash : shell == "zsh" ? kZsh : kFish;
    fmt::print("{}", fmt::format(fmt::runtime(script), fmt::arg("verbs", names)));
  });
}

}  // namespace halftone::cli
