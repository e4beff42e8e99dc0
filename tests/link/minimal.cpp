// link_minimal MODEL PLANS OUT.png: a picture from plan files, without compiler or model code.
#include <cstdio>
#include <memory>
#include <string>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "io/checkpoint.h"
#include "io/image.h"
#include "pipeline/pipeline.h"
#include "runtime/plan_file.h"

namespace {

using namespace halftone;

std::shared_ptr<const text::ClipTokenizer> tokenizer(const io::Checkpoint& checkpoint,
                                                     const std::string& name) {
  const io::TokenizerFiles& files = checkpoint.tokenizer(name);
  return std::make_shared<const text::ClipTokenizer>(
      text::ClipTokenizerFiles{.vocab = files.vocab_json,
                               .merges = files.merges_txt,
                               .tokenizer_json = {},
                               .tokenizer_config = files.tokenizer_config_json,
                               .special_tokens_map = files.special_tokens_map_json,
                               .added_tokens = {},
                               .folder = files.where});
}

void run(const std::string& model, const std::string& plans, const std::string& out) {
  const auto checkpoint = io::Checkpoint::open(model);
  const auto device = backend::cpu::create_cpu_device();
  const auto load = [&](const std::string& component) {
    const std::string file = plans + "/" + component + ".plan";
    auto plan = runtime::load_plan(file);
    runtime::check_fits(*plan, device->info(), device->kernels(), file);
    return plan;
  };
  pipeline::Pipeline pipe(
      {.device = device.get(),
       .plans =
           [&](const pipeline::WantedPlan& wanted) {
             return pipeline::PlanSource{.plan = load(wanted.component),
                                         .weights = checkpoint.get(),
                                         .origin = "file",
                                         .file = wanted.component + ".plan"};
           },
       .facts = pipeline::read_facts(load("unet")->metadata, load("vae_decoder")->metadata),
       .tokenizers = {tokenizer(*checkpoint, "tokenizer"), tokenizer(*checkpoint, "tokenizer_2")},
       .logger = {}});
  const auto config = diffusion::choose_scheduler(checkpoint->scheduler_config(), {});
  pipeline::Request request;
  request.prompt = request.prompt_2 = "a red apple";
  request.width = 64;
  request.height = 48;
  request.guidance = 5.0;
  request.schedule =
      diffusion::make_schedule(config, {.num_steps = 3, .timesteps = {}, .sigmas = {}});
  request.seeds = {1};
  request.size = {.original = {48, 64}, .crop_top_left = {}, .target = {48, 64}};
  request.negative_size = request.size;
  const pipeline::Result result = pipe.generate(request);
  io::write_png(out, {.width = 64, .height = 48, .rgb = result.rgb.front()}, {});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    run(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const halftone::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return halftone::exit_code(error.code());
  }
}
