"""Times diffusers on one CUDA GPU at the full SDXL shapes with random weights.

Command: python bench/peers/torch_cuda.py CASE [CASE ...]     CASE = NETWORK:BATCH:MODE
  NETWORK  sdxl (128x128 latent) | turbo (64x64 latent) | vae (1024x1024 decode) | clip (both text encoders)
  MODE     eager | graph (one CUDA graph) | compile (repeated blocks compiled, then one CUDA graph)

Needs torch, diffusers and transformers; no download: weights are random values in the true shapes. Prints one
JSON line a case: workload, precision, median_ms, p10_ms, p90_ms, n, device, peer, command, versions, memory.
"""

import gc
import json
import os
import shlex
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import diffusers
import torch
import transformers

RUNS = 20
TEXT = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "hidden_act": "quick_gelu", "projection_dim": 768, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip
TEXT_2 = {
    **TEXT, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "hidden_act": "gelu", "projection_dim": 1280,
}  # fmt: skip
UNET = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280), "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 1024,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
WORKLOADS = {"sdxl": "sdxl_unet_step_1024_b{}", "turbo": "turbo_unet_512_b{}", "vae": "vae_decode_1024",
             "clip": "text_encoders_b{}"}  # fmt: skip


def build(network, batch, dtype):
    """The modules to time and a function that runs them once."""
    torch.manual_seed(0)
    rand = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
    if network in ("sdxl", "turbo"):
        size = 128 if network == "sdxl" else 64
        with torch.device("cuda"):
            net = diffusers.UNet2DConditionModel(sample_size=size, **UNET)
        net = net.to(dtype).eval().to(memory_format=torch.channels_last)
        x = rand(batch, 4, size, size).to(memory_format=torch.channels_last)
        ids = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]] * batch, device="cuda", dtype=dtype)
        inputs = dict(encoder_hidden_states=rand(batch, 77, 2048), return_dict=False,
                      added_cond_kwargs=dict(text_embeds=rand(batch, 1280), time_ids=ids))  # fmt: skip
        step = torch.tensor(601.0, device="cuda")
        return [net], lambda: net(x, step, **inputs)
    if network == "vae":
        with torch.device("cuda"):
            net = diffusers.AutoencoderKL(**VAE).decoder
        net = net.to(dtype).eval().to(memory_format=torch.channels_last)
        x = rand(batch, 4, 128, 128).to(memory_format=torch.channels_last)
        return [net], lambda: net(x)
    if network == "clip":
        with torch.device("cuda"):
            one = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT))
            two = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**TEXT_2))
        one, two = one.to(dtype).eval(), two.to(dtype).eval()
        ids = torch.randint(3, 40000, (batch, 77), device="cuda")
        return [one, two], lambda: (one(ids, output_hidden_states=True), two(ids, output_hidden_states=True))
    raise SystemExit(f"unknown network {network}")


def capture(run):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def compile_blocks(nets):
    torch._dynamo.config.recompile_limit = 64
    for net in nets:
        for module in net.modules():
            if type(module).__name__ in ("BasicTransformerBlock", "ResnetBlock2D"):
                module.forward = torch.compile(module.forward, dynamic=False)


def timed(run):
    events = [torch.cuda.Event(enable_timing=True) for _ in range(RUNS + 1)]
    events[0].record()
    for i in range(RUNS):
        run()
        events[i + 1].record()
    torch.cuda.synchronize()
    return [events[i].elapsed_time(events[i + 1]) for i in range(RUNS)]


@torch.no_grad()
def measure(case):
    network, batch, mode = case.split(":")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    start = time.time()
    nets, run = build(network, int(batch), torch.float16)
    if mode == "compile":
        compile_blocks(nets)
    if mode != "eager":
        run = capture(run)
    for _ in range(5):
        run()
    torch.cuda.synchronize()
    warmup = time.time() - start
    times = timed(run)
    deciles = statistics.quantiles(times, n=10)
    return {
        "workload": WORKLOADS[network].format(batch), "precision": "fp16", "peer": f"diffusers {mode}",
        "median_ms": round(statistics.median(times), 3), "p10_ms": round(deciles[0], 3), "p90_ms": round(deciles[-1], 3),
        "n": RUNS, "samples_ms": [round(t, 3) for t in times], "warmup_s": round(warmup, 1),
        "peak_mib": round(torch.cuda.max_memory_allocated() / 2**20), "device": torch.cuda.get_device_name(),
        "torch": torch.__version__, "diffusers": diffusers.__version__, "cudnn": torch.backends.cudnn.version(),
        "command": shlex.join(["python", "bench/peers/torch_cuda.py", case]),
    }  # fmt: skip


def main():
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    for case in sys.argv[1:] or ["sdxl:2:graph", "vae:1:eager"]:
        try:
            row = measure(case)
        except Exception as error:  # one case that fails must not cost the others
            row = {"peer": case, "error": repr(error)[:300]}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
