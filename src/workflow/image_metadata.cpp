#include "workflow/image_metadata.h"

#include <array>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>

#include "base/json.h"
#include "workflow/report_json.h"

namespace halftone::workflow {
namespace {

struct WebName {
  std::string_view ours, theirs;
};
constexpr std::array kSamplers = {WebName{"euler", "Euler"},
                                  WebName{"euler-a", "Euler a"},
                                  WebName{"ddim", "DDIM"},
                                  WebName{"ddpm", "DDPM"},
                                  WebName{"lcm", "LCM"},
                                  WebName{"lms", "LMS"},
                                  WebName{"pndm", "PLMS"},
                                  WebName{"unipc", "UniPC"},
                                  WebName{"dpmpp-2m", "DPM++ 2M"},
                                  WebName{"flow-euler", "Euler"},
                                  WebName{"dpmpp-2m-sde", "DPM++ 2M SDE"}};
constexpr std::array kSigmas = {WebName{"karras", "Karras"}, WebName{"exponential", "Exponential"},
                                WebName{"beta", "Beta"}};

template <size_t N>
std::string web_name(const std::array<WebName, N>& names, const std::string& ours) {
  for (const WebName& name : names) {
    if (name.ours == ours) return std::string(name.theirs);
  }
  return ours;
}

std::string quoted(const std::string& value) {
  return value.find_first_of(",:\n\"") == std::string::npos ? value : to_text(Json(value));
}

class Line {
 public:
  void add(std::string_view key, const std::string& value) {
    text_ += fmt::format("{}{}: {}", text_.empty() ? "" : ", ", key, quoted(value));
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

std::string parameters_text(const ResolvedRequest& request, uint64_t seed,
                            const std::string& model_hash) {
  std::string text = request.prompt;
  for (const LoraUse& lora : request.loras) {  // WebUI's spelling
    const std::filesystem::path file(lora.file);
    const bool usual = file.stem() == "pytorch_lora_weights";
    text +=
        fmt::format(" <lora:{}:{}>", (usual ? file.parent_path().filename() : file.stem()).string(),
                    lora.weight);
  }
  if (request.has_negative_prompt) text += "\nNegative prompt: " + request.negative_prompt;
  Line line;
  line.add("Steps", fmt::format("{}", request.steps));
  line.add("Sampler", web_name(kSamplers, request.scheduler));
  if (!request.sigma_schedule.empty()) {
    line.add("Schedule type", web_name(kSigmas, request.sigma_schedule));
  }
  line.add("CFG scale", fmt::format("{}", request.guidance));
  line.add("Seed", fmt::format("{}", seed));
  line.add("Size", fmt::format("{}x{}", request.width, request.height));
  if (!model_hash.empty()) line.add("Model hash", model_hash.substr(0, 10));
  line.add("Model", std::filesystem::path(request.model).filename().string());
  if (!request.init_image.empty()) {
    line.add("Denoising strength", fmt::format("{}", request.strength));
  }
  line.add("RNG", request.rng == "cpu" ? "CPU" : "NV");
  line.add("Version", fmt::format("halftone {}", kVersion));
  return text + "\n" + line.text();
}

std::string image_json(const ResolvedRequest& request, uint64_t seed,
                       const std::vector<PlanUse>& plans) {
  Json json =
      Json::object({{"schema", "halftone.image/v1"}, {"version", kVersion}, {"seed", seed}});
  ResolvedRequest own = request;  // makes this picture alone
  own.random_seed = false;
  own.seed = seed;
  own.batch_size = own.batch_count = 1;
  json.set("request", to_value(own));
  Json list = Json::array();
  for (const PlanUse& plan : plans) {
    list.push(Json::object({{"component", plan.component},
                            {"fingerprint", plan.fingerprint},
                            {"precision", plan.precision}}));
  }
  json.set("plans", std::move(list));
  return to_text(json);
}

std::string disclosure_xmp() {
  return R"(<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF )"
         R"(xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" )"
         R"(xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" )"
         R"(Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/)"
         R"(trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>)";
}

}  // namespace halftone::workflow
