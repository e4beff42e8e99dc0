// Flags of TensorRT's demo, trtexec, MixDQ, OneDiff, stable-diffusion.cpp and diffusers that are no
// options of ours: what they stand for, or why they are refused.
#include <array>

#include "request_options.h"

namespace halftone::cli {
namespace {

constexpr std::string_view kNoQuantization =
    "not built into this version; give --precision int8 or fp8, a --quant-type or a --recipe";
constexpr std::string_view kNoLora =
    "give each LoRA as --lora PATH:WEIGHT (it is merged into the weights)";
constexpr std::string_view kNoTiling =
    "memory options are not built into this version; use a smaller size or batch";
constexpr std::string_view kNoPreview = "previews are not built into this version; use --progress";
constexpr std::string_view kNoOverride =
    "components are replaced by diffusers folders: --unet, --vae, --text-encoder, --text-encoder-2";
constexpr std::string_view kNoControl = "not part of Halftone; use a text-to-image model";
constexpr std::string_view kNoShapes =
    "each size has its own profile; use --size WxH and --batch N";
constexpr std::string_view kNoTuning =
    "what is measured on a GPU is kept below --cache-dir by itself; leave it out";
constexpr std::string_view kTable =
    "kernels are taken from an ordered table, the same at every level";
constexpr std::string_view kInspect = "use 'halftone inspect PLAN' (-v, --json)";
constexpr std::string_view kBenchJson =
    "use --iterations N and --json, which gives median, p10, p90 and the time per operator class";
constexpr std::string_view kOneDevice =
    "all components run on one --device; --low-vram loads one after the other";
constexpr std::string_view kNoVideo = "Halftone makes images only";

constexpr std::array kFixed = {
    FixedAlias{"--fp32", "--precision", "fp32"}, FixedAlias{"--bf16", "--precision", "bf16"},
    FixedAlias{"--fp16", "--precision", "fp16"}, FixedAlias{"--int8", "--precision", "int8"},
    FixedAlias{"--fp8", "--precision", "fp8"},   FixedAlias{"--best", "--precision", "int8"},
};

constexpr std::array kNoted = {
    NotedFlag{"--offline", false, "always so: Halftone has no network code"},
    NotedFlag{"--onnx-dir", true,
              "no ONNX is made or needed; the plan is built from the checkpoint"},
    NotedFlag{"--run-pipeline", false, "always so"},
    NotedFlag{"--cuda-graph", false, "always so on a GPU; --no-cuda-graph switches it off"},
    NotedFlag{"--use-cuda-graph", false, "always so on a GPU; --no-cuda-graph switches it off"},
    NotedFlag{"--useCudaGraph", false, "always so on a GPU; --no-cuda-graph switches it off"},
    NotedFlag{"--cuda-graph-only", false, "always so on a GPU"},
    NotedFlag{"--nvtx-profile", false, "always so; with --no-cuda-graph every layer has its range"},
    NotedFlag{"--build-enable-refit", false, "always so: weights live outside the plan"},
    NotedFlag{"--build-static-batch", false, "always so: each shape has its own profile"},
    NotedFlag{"--refit", false, "always so: weights live outside the plan"},
    NotedFlag{"--static-batch", false, "always so: each shape has its own profile"},
    NotedFlag{"--dynamic-shape", false, "a new size builds its own profile when it is first used"},
    NotedFlag{"--build-dynamic-shape", false,
              "a new size builds its own profile when it is first used"},
    NotedFlag{"--opt-level", true, kTable},
    NotedFlag{"--optimization-level", true, kTable},
    NotedFlag{"--builderOptimizationLevel", true, kTable},
    NotedFlag{"--all-tactics", false, kTable},
    NotedFlag{"--build-all-tactics", false, kTable},
    NotedFlag{"--mmap", false, "weights are read in place by position"},
};

constexpr std::array kRefused = {
    RefusedFlag{"--fp4", kNoQuantization},
    RefusedFlag{"--quantize", kNoQuantization},
    RefusedFlag{"--w-config", kNoQuantization},
    RefusedFlag{"--a-config", kNoQuantization},
    RefusedFlag{"--act-protect", kNoQuantization},
    RefusedFlag{"--ckpt", kNoQuantization},
    RefusedFlag{"--bos", kNoQuantization},
    RefusedFlag{
        "--tensor-type-rules",
        "types per tensor are not built into this version; use --precision and --vae-precision"},
    RefusedFlag{"--compiler-config",
                "OneDiff's compiler words belong to 'generate' and 'build'; leave it out"},
    RefusedFlag{"--lora-dir", kNoLora},
    RefusedFlag{"--lora-path", kNoLora},
    RefusedFlag{"--lora-weight", kNoLora},
    RefusedFlag{"--lora-scale", kNoLora},
    RefusedFlag{"--lora-model-dir", kNoLora},
    RefusedFlag{"--lora-apply-mode", kNoLora},
    RefusedFlag{"--transformer", kNoOverride},
    RefusedFlag{"--diffusion-model", kNoOverride},
    RefusedFlag{"--text-encoder-3", kNoOverride},
    RefusedFlag{"--clip-l", kNoOverride},
    RefusedFlag{"--clip-g", kNoOverride},
    RefusedFlag{"--t5xxl", "T5 belongs to SD3 and FLUX, which this version does not run"},
    RefusedFlag{"--tiny-vae", kNoOverride},
    RefusedFlag{"--taesd", kNoOverride},
    RefusedFlag{"--tae", kNoOverride},
    RefusedFlag{"--prompt-3", "a third text encoder belongs to SD3; use --prompt-2 with SDXL"},
    RefusedFlag{"--negative-prompt-3",
                "a third text encoder belongs to SD3; use --negative-prompt-2 with SDXL"},
    RefusedFlag{"--max-sequence-length", "belongs to T5; CLIP's length is fixed by the model"},
    RefusedFlag{"--guidance-rescale", "it is no linear update; lower --cfg-scale instead"},
    RefusedFlag{"--slg-scale", "skip-layer guidance belongs to SD3.5; leave it out"},
    RefusedFlag{"--guidance",
                "distilled guidance belongs to FLUX; use --cfg-scale for classifier-free guidance"},
    RefusedFlag{"--clip-skip",
                "not built into this version; leave it out for the model's own layer"},
    RefusedFlag{"--mask",
                "inpainting is not built into this version; use --init-img with --strength"},
    RefusedFlag{"--preview", kNoPreview},
    RefusedFlag{"--preview-interval", kNoPreview},
    RefusedFlag{"--preview-path", kNoPreview},
    RefusedFlag{"--vae-tiling", kNoTiling},
    RefusedFlag{"--vae-tile-size", kNoTiling},
    RefusedFlag{"--vae-tile-overlap", kNoTiling},
    RefusedFlag{"--max-vram", kNoTiling},
    RefusedFlag{"--offload", kNoTiling},
    RefusedFlag{"--offload-to-cpu", kNoTiling},
    RefusedFlag{"--low-vram", kNoTiling},
    RefusedFlag{"--ws", kNoTiling},
    RefusedFlag{"--clip-on-cpu", kOneDevice},
    RefusedFlag{"--vae-on-cpu", kOneDevice},
    RefusedFlag{"--profile-tool", "use 'halftone bench e2e', which times every operator class"},
    RefusedFlag{"--profile", "use 'halftone bench e2e', which times every operator class"},
    RefusedFlag{"--quality",
                "applies to jpeg and webp, which this version does not write; use png"},
    RefusedFlag{"--torch-inference", "there is no torch inside; compare with diffusers by hand"},
    RefusedFlag{"--torch-fallback", "there is no torch inside; leave it out"},
    RefusedFlag{"--hf-token", "Halftone never downloads; use 'hf download', then -m ORG/NAME"},
    RefusedFlag{"--download-onnx-models", "Halftone never downloads; use 'hf download ORG/NAME'"},
    RefusedFlag{"--onnx", "plans are built from checkpoints, not from ONNX; use -m"},
    RefusedFlag{"--shapes", kNoShapes},
    RefusedFlag{"--minShapes", kNoShapes},
    RefusedFlag{"--optShapes", kNoShapes},
    RefusedFlag{"--maxShapes", kNoShapes},
    RefusedFlag{"--min-batch", kNoShapes},
    RefusedFlag{"--max-batch", kNoShapes},
    RefusedFlag{"--timing-cache", kNoTuning},
    RefusedFlag{"--timingCacheFile", kNoTuning},
    RefusedFlag{"--workspace", kNoTuning},
    RefusedFlag{"--memPoolSize", kNoTuning},
    RefusedFlag{"--dumpLayerInfo", kInspect},
    RefusedFlag{"--exportLayerInfo", kInspect},
    RefusedFlag{"--sign", "plans are not signed in this version"},
    RefusedFlag{"--duration", kBenchJson},
    RefusedFlag{"--percentile", kBenchJson},
    RefusedFlag{"--exportTimes", kBenchJson},
    RefusedFlag{"--exportProfile", kBenchJson},
    RefusedFlag{"--dumpProfile", kBenchJson},
    RefusedFlag{"--baseline", "not built into this version; compare two --json files"},
    RefusedFlag{"--max-regression", "not built into this version; compare two --json files"},
    RefusedFlag{"--report", "not built into this version; use --json=FILE"},
    RefusedFlag{"--run-multiple-resolutions", "belongs to 'generate'; repeat with --size WxH"},
    RefusedFlag{"--run-multiple-prompts", "give several prompts with -p or --prompt-file"},
    RefusedFlag{"--control-net", kNoControl},
    RefusedFlag{"--control-image", kNoControl},
    RefusedFlag{"--photo-maker", kNoControl},
    RefusedFlag{"--upscale-model", kNoControl},
    RefusedFlag{"--video-frames", kNoVideo},
    RefusedFlag{"--fps", kNoVideo},
    RefusedFlag{"--api-key", "belongs to 'serve', which this version does not have"},
};

}  // namespace

const Spelling& request_spelling() {
  static constexpr Spelling kSpelling{kFixed, kRefused, kNoted};
  return kSpelling;
}

}  // namespace halftone::cli
