// halftone models: list, show, path, verify, rm, random.
#include "halftone/models.h"

#include <algorithm>
#include <optional>
#include <random>

#include <fmt/format.h>

#include "halftone/inspect.h"

#include "request_options.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct ModelsArgs {
  CommonOptions common;
  std::vector<std::string> words;
  RandomModelOptions random;
  std::string seed = "0";
  bool yes = false;
};

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

void list(const ModelsArgs& a) {
  std::vector<ModelEntry> models = list_models(a.common.models_dir, a.common.hf_cache);
  const std::string bundled = bundled_folder("emoji-xl", "model_index.json");
  if (!bundled.empty()) {
    ModelEntry own = find_model(bundled, "");
    const bool listed = std::any_of(models.begin(), models.end(), [&](const ModelEntry& model) {
      return model.path == own.path;
    });
    own.name = "emoji-xl";
    if (!listed) models.insert(models.begin(), own);
  }
  if (!a.random.family.empty()) {
    std::erase_if(models, [&](const ModelEntry& model) { return model.family != a.random.family; });
  }
  if (!a.common.json.empty()) write_json(a.common, to_json(models));
  if (json_on_stdout(a.common)) return;
  for (const ModelEntry& model : models) {
    fmt::print("{:<40} {:<6} {:>10.1f} MB  {}\n", model.name,
               model.family.empty() ? "?" : model.family, mib(model.num_bytes),
               model.problem.empty() ? model.path : model.problem);
  }
}

const std::string& need_name(const ModelsArgs& a) {
  if (a.words.size() != 2) {
    throw UsageError(fmt::format("models {}: wanted one model name", a.words.front()));
  }
  return a.words[1];
}

void path(const ModelsArgs& a) {
  const ModelEntry entry = find_model(resolve_model(need_name(a), a.common), a.common.hf_cache);
  if (!a.common.json.empty()) write_json(a.common, to_json(std::vector{entry}));
  if (!json_on_stdout(a.common)) fmt::print("{}\n", entry.path);
}

void show(const ModelsArgs& a) {
  const InspectResult result =
      inspect({.path = resolve_model(need_name(a), a.common), .hf_cache = a.common.hf_cache});
  if (!a.common.json.empty()) write_json(a.common, result.json);
  if (!json_on_stdout(a.common)) fmt::print("{}", result.text);
}

void verify(const ModelsArgs& a) {
  const ModelVerification result = verify_model(resolve_model(need_name(a), a.common),
                                                a.common.hf_cache, make_progress(a.common));
  if (!a.common.json.empty()) write_json(a.common, to_json(result));
  if (!json_on_stdout(a.common)) {
    for (const VerifiedFile& file : result.files) {
      fmt::print("{}  {}  {}\n", file.sha256, file.path,
                 file.problem.empty() ? "ok" : file.problem);
    }
  }
  if (result.passed()) return;
  throw Error(
      Errc::kCorruptFile,
      result.num_non_finite > 0
          ? fmt::format("{}: {} weights are not finite", result.model.path, result.num_non_finite)
          : fmt::format("{}: files differ from what they should be; fetch them again",
                        result.model.path));
}

void remove(const ModelsArgs& a) {
  const RemovedModel removed =
      remove_model(need_name(a), a.common.models_dir, a.common.hf_cache, !a.yes);
  const std::string what = fmt::format("{} ({} files, {:.1f} MB)", removed.path, removed.num_files,
                                       mib(removed.num_bytes));
  if (!a.yes) throw UsageError(fmt::format("models rm: removes {}; give --yes to do it", what));
  if (!a.common.json.empty()) write_json(a.common, to_json(removed));
  if (!json_on_stdout(a.common)) fmt::print("removed {}\n", what);
}

void random(ModelsArgs& a) {
  if (a.random.family.empty())
    throw UsageError("models random: --family sdxl|sdxl-turbo|sd15 is needed");
  if (a.random.out.empty()) throw UsageError("models random: --out DIR is needed");
  const std::optional<uint64_t> seed = parse_seed(a.seed);
  a.random.seed = seed.value_or(std::random_device()());
  if (!seed && !a.common.quiet) fmt::print(stderr, "seed {}\n", a.random.seed);
  a.random.threads = a.common.threads;
  a.random.clip_vocab = bundled_folder("clip-bpe", "vocab.json");
  a.random.progress = make_progress(a.common);
  write_random_model(a.random);
  fmt::print("{}\n", a.random.out);
}

// Options that another word would ignore.
void refuse_foreign(const CLI::App& app, Args args, const std::string& what) {
  struct Belongs {
    const char* flag;
    std::vector<std::string> words;
  };
  const Belongs all[] = {{"--yes", {"rm"}},       {"--family", {"random", "list", "ls"}},
                         {"--out", {"random"}},   {"--tiny", {"random"}},
                         {"--dtype", {"random"}}, {"--seed", {"random"}}};
  for (const auto& [flag, words] : all) {
    if (std::ranges::count(words, what) > 0 || !is_typed(*app.get_option(flag), args)) continue;
    throw UsageError(fmt::format("{}: belongs to 'halftone models {}'", flag, words.front()));
  }
}

void run(const CLI::App& app, Args args, ModelsArgs& a) {
  if (a.words.empty()) a.words.emplace_back("list");
  const std::string& what = a.words.front();
  refuse_foreign(app, args, what);
  if (what == "list" || what == "ls") {
    list(a);
  } else if (what == "show") {
    show(a);
  } else if (what == "path") {
    path(a);
  } else if (what == "random") {
    random(a);
  } else if (what == "verify") {
    verify(a);
  } else if (what == "rm") {
    remove(a);
  } else {
    throw UsageError(
        fmt::format("models: got '{}', wanted list, show, path, verify, rm or random", what));
  }
}

}  // namespace

int run_models(Args args) {
  ModelsArgs a;
  CLI::App app("Lists, finds, verifies, removes and makes models.", "halftone models");
  app.add_option("what", a.words, "list | show NAME | path NAME | verify NAME | rm NAME | random");
  app.add_flag("--yes,-y", a.yes, "rm: remove it, all revisions of an id");
  app.add_option("--family", a.random.family, "random: sdxl, sdxl-turbo or sd15; list: only these")
      ->check(CLI::IsMember({"sdxl", "sdxl-turbo", "sd15"}));
  app.add_option("--out", a.random.out, "random: folder to create");
  app.add_flag("--tiny", a.random.tiny, "random: a few MB instead of the true shapes");
  app.add_option("--dtype", a.random.dtype, "random: f32, f16 or bf16")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}));
  app.add_option("--seed", a.seed, "random: seed of the weights; -1 = random");
  add_common(app, a.common);
  return run_verb({"models", app, args, {}}, a.common, [&] { run(app, args, a); });
}

}  // namespace halftone::cli
