#include "workflow/layer_table.h"

#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "workflow/plans.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSqnrSchema = "halftone.layer_sqnr/v1";

std::string describe(const std::optional<quant::QuantSpec>& spec) {
  if (!spec) return {};
  const bool is_integer = spec->dtype == DType::kI8;
  return fmt::format("{} {}{}{}", is_integer ? fmt::format("i{}", spec->bits) : "f8e4m3",
                     graph::to_string(spec->granularity), spec->dynamic ? " dynamic" : "",
                     spec->symmetric ? "" : " asymmetric");
}

std::string describe_input(const quant::LayerReport& layer) {
  if (!layer.attention) return describe(layer.activation);
  return fmt::format("q, k {}{}; v {}; probabilities f8e4m3", describe(layer.attention->qk),
                     layer.attention->center_keys ? ", k centered" : "",
                     describe(layer.attention->v));
}

std::string_view op_of(quant::LayerKind kind) {
  using quant::LayerKind;
  return kind == LayerKind::kConv        ? "conv2d"
         : kind == LayerKind::kAttention ? "attention"
                                         : "linear";
}

constexpr std::array<const char*, 3> kOperands = {"q", "k", "v"};

// {"q": x, "k": y, "v": z}
Json operand_value(const std::array<double, 3>& values) {
  Json json = Json::object();
  for (size_t i = 0; i < values.size(); ++i) json.set(kOperands[i], values[i]);
  return json;
}

void parse_operands(const JsonView& row, const char* key, std::array<double, 3>& values) {
  if (!row.has(key)) return;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = row.at(key).number_or(kOperands[i], 0);
  }
}

bool is_static_attention(const QuantizedLayer& layer) {
  return std::ranges::any_of(layer.operand_amax, [](double amax) { return amax > 0; });
}

QuantizedLayer parse_row(const JsonView& view) {
  QuantizedLayer row;
  row.name = view.at("name").string();
  row.op = view.string_or("op", "");
  row.weight = view.string_or("weight", "");
  row.input = view.string_or("input", "");
  row.weight_bits = static_cast<int>(view.integer_or("weight_bits", 0, 0, 64));
  row.input_bits = static_cast<int>(view.integer_or("input_bits", 0, 0, 64));
  row.input_amax = view.number_or("input_amax", 0);
  row.input_scale = view.number_or("input_scale", 0);
  parse_operands(view, "operand_amax", row.operand_amax);
  parse_operands(view, "operand_scale", row.operand_scale);
  row.smoothing = view.string_or("smoothing", "");
  row.why = view.string_or("why", "");
  row.num_weights = static_cast<uint64_t>(view.integer_or("num_weights", 0, 0));
  if (view.has("sqnr_db")) row.sqnr = view.at("sqnr_db").number();
  return row;
}

fs::path sqnr_file(const SqnrKey& key) {
  return key.cache_dir / "sqnr" /
         fmt::format("{}-{}-{}-{}.json", key.weights.substr(0, 16), key.recipe.substr(0, 16),
                     key.record.empty() ? "none" : key.record.substr(0, 16), plan_makers_hash());
}

}  // namespace

std::vector<QuantizedLayer> layer_rows(const quant::Applied& applied) {
  std::vector<QuantizedLayer> rows;
  for (const quant::LayerReport& layer : applied.layers) {
    QuantizedLayer row;
    row.name = layer.name;
    row.op = op_of(layer.kind);
    row.weight = describe(layer.weight);
    row.input = describe_input(layer);
    row.weight_bits = layer.weight ? static_cast<int>(layer.weight->bits) : 0;
    row.input_bits = layer.attention    ? 8
                     : layer.activation ? static_cast<int>(layer.activation->bits)
                                        : 0;
    row.input_amax = static_cast<double>(layer.input_amax);
    row.input_scale = static_cast<double>(layer.input_scale);
    std::ranges::copy(layer.operand_amax, row.operand_amax.begin());
    std::ranges::copy(layer.operand_scale, row.operand_scale.begin());
    row.smoothing = layer.smoothing;
    row.why = layer.why;
    row.num_weights = static_cast<uint64_t>(layer.num_weights);
    rows.push_back(std::move(row));
  }
  return rows;
}

void add_rows(std::vector<QuantizedLayer> rows, QuantizeReport& report) {
  for (QuantizedLayer& row : rows) {
    report.bytes_f16 += row.num_weights * 2;
    report.bytes +=
        row.num_weights * static_cast<uint64_t>(row.weight_bits > 0 ? row.weight_bits : 16) / 8;
    report.layers.push_back(std::move(row));
  }
}

Json to_value(const std::vector<QuantizedLayer>& rows) {
  Json layers = Json(Json::Array{});
  for (const QuantizedLayer& layer : rows) {
    Json row = Json::object({{"name", layer.name},
                             {"op", layer.op},
                             {"weight", layer.weight},
                             {"input", layer.input},
                             {"weight_bits", layer.weight_bits},
                             {"input_bits", layer.input_bits},
                             {"input_amax", layer.input_amax},
                             {"input_scale", layer.input_scale},
                             {"smoothing", layer.smoothing},
                             {"why", layer.why},
                             {"num_weights", layer.num_weights}});
    if (is_static_attention(layer)) {
      row.set("operand_amax", operand_value(layer.operand_amax));
      row.set("operand_scale", operand_value(layer.operand_scale));
    }
    if (layer.sqnr) row.set("sqnr_db", *layer.sqnr);
    layers.push(std::move(row));
  }
  return layers;
}

std::vector<QuantizedLayer> parse_rows(const JsonView& rows) {
  std::vector<QuantizedLayer> result;
  for (const JsonView& row : rows.items()) result.push_back(parse_row(row));
  return result;
}

QuantizeReport parse_layer_table(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  const JsonView view(json, where);
  if (view.string_or("schema", "") != "halftone.quantize/v1") {
    view.fail("is no table of layers (halftone.quantize/v1)");
  }
  QuantizeReport report;
  report.name = view.at("name").string();
  report.origin = view.string_or("origin", "");
  report.recipe_hash = view.string_or("recipe_hash", "");
  report.record_hash = view.string_or("calibration_hash", "");
  add_rows(parse_rows(view.at("layers")), report);
  return report;
}

void keep_sqnr(const SqnrKey& key, const LayerSqnr& sqnr) {
  if (key.cache_dir.empty() || sqnr.empty()) return;
  Json layers = Json::object();
  for (const auto& [name, value] : sqnr) layers.set(name, value);
  const fs::path file = sqnr_file(key);
  make_folders(file.parent_path());
  write_file_atomically(
      file, to_text(Json::object({{"schema", kSqnrSchema}, {"layers", std::move(layers)}})));
}

LayerSqnr find_sqnr(const SqnrKey& key) {
  LayerSqnr result;
  if (key.cache_dir.empty()) return result;
  const fs::path file = sqnr_file(key);
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return result;
  try {
    const Json json = parse_json(read_text_file(file), file.string());
    const JsonView view(json, file.string());
    if (view.at("schema").string() != kSqnrSchema) return result;
    // An output that is equal has no number.
    for (const auto& [name, value] : view.at("layers").members()) {
      result[name] =
          value.value().is_null() ? std::numeric_limits<double>::infinity() : value.number();
    }
  } catch (const Error&) {
    result.clear();
  }
  return result;
}

void set_sqnr(const LayerSqnr& sqnr, std::vector<QuantizedLayer>& rows) {
  for (QuantizedLayer& row : rows) {
    if (const auto found = sqnr.find(row.name); found != sqnr.end()) row.sqnr = found->second;
  }
}

}  // namespace halftone::workflow
