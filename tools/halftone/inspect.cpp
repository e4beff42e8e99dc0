// halftone inspect: what is in a file.
#include "halftone/inspect.h"

#include <fmt/format.h>

#include "request_options.h"
#include "verbs.h"

namespace halftone::cli {

int run_inspect(Args args) {
  CommonOptions common;
  std::string path, metadata_format = "text";
  bool tensors = false, metadata = false;
  CLI::App app("Shows what is in a plan, model, safetensors file or image. Only headers are read.",
               "halftone inspect");
  app.add_option("path", path, "File, folder or ORG/NAME")->required();
  app.add_flag("--tensors", tensors, "List every tensor");
  app.add_flag("--metadata", metadata, "Accepted: metadata are always shown");
  app.add_option("--metadata-format", metadata_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  add_common(app, common);
  return run_verb({"inspect", app, args, {}}, common, [&] {
    const InspectResult result = inspect({.path = resolve_model(path, common),
                                          .hf_cache = common.hf_cache,
                                          .tensors = tensors,
                                          .verbose = common.verbose > 0});
    if (metadata_format == "json" && common.json.empty()) common.json = "-";
    if (!common.json.empty()) write_json(common, result.json);
    if (!json_on_stdout(common)) fmt::print("{}", result.text);
  });
}

}  // namespace halftone::cli
