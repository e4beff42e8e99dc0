#include "workflow/inspect.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <vector>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "io/checkpoint.h"
#include "io/image.h"
#include "io/safetensors.h"
#include "runtime/plan_file.h"
#include "workflow/model.h"
#include "workflow/report_json.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

Json json_dtypes(const std::map<std::string, uint64_t>& bytes_by_dtype) {
  Json json = Json::object();
  for (const auto& [dtype, bytes] : bytes_by_dtype) json.set(dtype, bytes);
  return json;
}

std::string text_dtypes(const std::map<std::string, uint64_t>& bytes_by_dtype) {
  std::string text;
  for (const auto& [dtype, bytes] : bytes_by_dtype) {
    text += fmt::format("{}{} {:.1f} MB", text.empty() ? "" : ", ", dtype, mib(bytes));
  }
  return text;
}

InspectResult inspect_model(const InspectOptions& options) {
  const auto checkpoint =
      io::Checkpoint::open(options.path, {.variant = {},
                                          .hf_cache = {.hf_hub_cache = options.hf_cache,
                                                       .hf_home = {},
                                                       .xdg_cache_home = {},
                                                       .home = {}},
                                          .component_folders = {},
                                          .config_folder = {},
                                          .clip_vocab = {},
                                          .hash_cache = {},
                                          .logger = {}});
  Json json = header("inspect");
  json.set("kind", "model").set("path", checkpoint->path().string());
  json.set("layout", checkpoint->layout()).set("family", checkpoint->family());
  json.set("structure_hash", checkpoint->structure_hash());
  std::string text =
      fmt::format("model {}\n  layout {}, family {}\n  structure {}\n", checkpoint->path().string(),
                  checkpoint->layout(), checkpoint->family(), checkpoint->structure_hash());
  Json components = Json::array();
  for (const io::ComponentInfo& c : checkpoint->components()) {
    Json entry = Json::object({{"name", c.name},
                               {"num_tensors", c.num_tensors},
                               {"num_parameters", c.num_parameters},
                               {"size_bytes", c.bytes},
                               {"size_bytes_by_dtype", json_dtypes(c.bytes_by_dtype)},
                               {"files", Json::array_of(c.files)}});
    text += fmt::format("  {:<16} {:>6} tensors {:>14} parameters  {}\n", c.name, c.num_tensors,
                        c.num_parameters, text_dtypes(c.bytes_by_dtype));
    if (options.tensors) {
      Json tensors = Json::array();
      for (const std::string& name : checkpoint->tensor_names(c.name)) {
        const std::string type = to_string(checkpoint->type(c.name + "/" + name));
        tensors.push(Json::object({{"name", name}, {"type", type}}));
        text += fmt::format("    {:<72} {}\n", name, type);
      }
      entry.set("tensors", std::move(tensors));
    }
    components.push(std::move(entry));
  }
  json.set("components", std::move(components));
  json.set("warnings", Json::array_of(checkpoint->warnings()));
  for (const std::string& warning : checkpoint->warnings()) text += "  warning: " + warning + "\n";
  return {.kind = "model", .text = std::move(text), .json = to_text(json)};
}

InspectResult inspect_safetensors(const InspectOptions& options) {
  const io::SafetensorsFile file(options.path);
  const io::SafetensorsHeader& header_data = file.header();
  std::map<std::string, uint64_t> bytes_by_dtype;
  for (const auto& tensor : header_data.tensors) {
    bytes_by_dtype[tensor.dtype_name] += tensor.end - tensor.begin;
  }
  Json json = header("inspect");
  json.set("kind", "safetensors").set("path", options.path);
  json.set("num_tensors", header_data.tensors.size());
  json.set("size_bytes_by_dtype", json_dtypes(bytes_by_dtype));
  std::string text = fmt::format("safetensors {}\n  {} tensors, {}\n", options.path,
                                 header_data.tensors.size(), text_dtypes(bytes_by_dtype));
  Json metadata = Json::object();
  for (const auto& [key, value] : header_data.metadata) {
    metadata.set(key, value);
    text += fmt::format("  metadata {}: {}\n", printable(key), printable(value));
  }
  json.set("metadata", std::move(metadata));
  if (options.tensors) {
    Json tensors = Json::array();
    for (const auto& tensor : header_data.tensors) {
      tensors.push(Json::object({{"name", tensor.name},
                                 {"dtype", tensor.dtype_name},
                                 {"shape", Json::array_of(tensor.shape.dims())},
                                 {"begin", tensor.begin},
                                 {"end", tensor.end}}));
      text += fmt::format("  {:<72} {} {}\n", printable(tensor.name), tensor.dtype_name,
                          to_string(tensor.shape));
    }
    json.set("tensors", std::move(tensors));
  }
  json.set("warnings", Json::array_of(header_data.warnings));
  return {.kind = "safetensors", .text = std::move(text), .json = to_text(json)};
}

InspectResult inspect_image(const std::string& path) {
  const io::PngInfo info = io::read_png_info(path);
  Json json = header("inspect");
  json.set("kind", "image").set("path", path).set("width", info.width).set("height", info.height);
  std::string text = fmt::format("image {}\n  {} x {}\n", path, info.width, info.height);
  Json chunks = Json::array();
  for (const io::TextChunk& chunk : info.text) {
    chunks.push(Json::object({{"keyword", chunk.keyword}, {"text", chunk.text}}));
    text += fmt::format("{}:\n{}\n", printable(chunk.keyword), chunk.text);
  }
  json.set("text", std::move(chunks));
  return {.kind = "image", .text = std::move(text), .json = to_text(json)};
}

bool is_png(const std::string& path) {
  constexpr std::array<unsigned char, 8> kSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  const File file(path);
  std::array<std::byte, 8> bytes{};
  if (file.size() < bytes.size()) return false;
  file.read(0, bytes);
  return std::memcmp(bytes.data(), kSignature.data(), kSignature.size()) == 0;
}

[[noreturn]] void refuse_other(const std::string& path) {
  constexpr size_t kMostRecipe = size_t{16} << 20;
  const bool has_layers =
      path.ends_with(".layers.json") ||
      (path.ends_with(".json") &&
       read_text_file(path, kMostRecipe).find("\"halftone_recipe\"") != std::string::npos);
  throw Error(
      Errc::kUnsupported,
      has_layers
          ? fmt::format(
                "{}: is a recipe or its table; 'halftone inspect --layers {}' shows what it does "
                "to each layer",
                path, path)
          : fmt::format("{}: is no plan, PNG picture, .safetensors file or model's folder", path));
}

InspectResult inspect_plans(const std::vector<fs::path>& files, const InspectOptions& options) {
  InspectResult result{.kind = "plans", .text = {}, .json = {}};
  Json plans = Json::array();
  for (const fs::path& file : files) {
    PlanDescription one = describe_plan(*runtime::load_plan(file), file.string(), options.verbose);
    plans.push(std::move(one.json));
    result.text += one.text;
  }
  Json json = header("inspect");
  json.set("kind", result.kind).set("path", options.path).set("plans", std::move(plans));
  result.json = to_text(json);
  return result;
}

}  // namespace

std::vector<fs::path> plans_of(const fs::path& folder) {
  std::error_code ignored;
  const bool is_model = fs::exists(folder / "model_index.json", ignored);
  if (is_model || !fs::is_directory(folder, ignored)) return {};
  return runtime::plans_in(folder);
}

bool is_meant_as_plan(const std::string& path) {
  return path.ends_with(".plan") || path.ends_with(".engine") || runtime::is_plan_file(path);
}

InspectResult inspect(const InspectOptions& options) {
  std::error_code ignored;
  const fs::path path(options.path);
  if (const auto plans = plans_of(path); !plans.empty()) return inspect_plans(plans, options);
  if (!fs::exists(path, ignored) || fs::is_directory(path, ignored)) return inspect_model(options);
  if (path.extension() == ".safetensors") return inspect_safetensors(options);
  if (is_png(options.path)) return inspect_image(options.path);
  if (!is_meant_as_plan(options.path)) refuse_other(options.path);
  PlanDescription plan = describe_plan(*runtime::load_plan(path), options.path, options.verbose);
  return {.kind = "plan", .text = std::move(plan.text), .json = to_text(plan.json)};
}

}  // namespace halftone::workflow
