"""Times diffusers on the CPU at the full SDXL-Turbo shapes with random weights: 512x512, one step, no guidance.

Command: python bench/peers/diffusers_cpu.py [--precision bf16 fp32] [--repeats 5] [--threads N] [--compile]
         python bench/peers/diffusers_cpu.py --model tests/golden/tiny-sdxl --size 64     (trial on a tiny checkpoint)

Needs torch, diffusers and transformers; no download: the weights are random values in the true shapes (the
configurations of stabilityai/sdxl-turbo are in this file). bf16 needs about 9 GB of memory, fp32 16 GB.
Every precision runs in its own process, so its peak memory is its own. The text encoders read fixed
token ids: tokenizing is left out (well under a millisecond).

Prints one JSON line per precision and part: workload, precision, median_ms, p10_ms, p90_ms, runs, device, threads, peer,
command; the whole-image line (`turbo_image_512_s1_cpu`) also has peak_rss_mib and weights_mib.
"""

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time

TEXT = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "hidden_act": "quick_gelu", "projection_dim": 768, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip
TEXT_2 = {
    **TEXT, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "hidden_act": "gelu", "projection_dim": 1280,
}  # fmt: skip
UNET = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280), "layers_per_block": 2, "cross_attention_dim": 2048,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20], "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 1024,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.13025, "force_upcast": True,
}  # fmt: skip


def materialize(build, dtype):
    """Builds a module without memory, then fills it in dtype with one repeated block of random values."""
    import torch

    with torch.device("meta"):
        module = build()
    module = module.to(dtype).to_empty(device="cpu").eval()
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        for name, p in module.named_parameters():
            scale = p[0].numel() ** -0.5 if p.dim() > 1 else 0.02
            flat = p.view(-1)
            for start in range(0, flat.numel(), block.numel()):
                part = flat[start : start + block.numel()]
                part.copy_(block[: part.numel()]).mul_(scale)
            if p.dim() == 1 and name.endswith("weight"):
                p.add_(1)
        for name, b in module.named_buffers():
            if name.endswith("position_ids"):
                b.copy_(torch.arange(b.shape[-1])[None])
    return module


def random_pipeline(dtype):
    from diffusers import (
        AutoencoderKL,
        EulerAncestralDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    scheduler = EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", steps_offset=1
    )
    return StableDiffusionXLPipeline(
        text_encoder=materialize(lambda: CLIPTextModel(CLIPTextConfig(**TEXT)), dtype),
        text_encoder_2=materialize(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2)), dtype),
        unet=materialize(lambda: UNet2DConditionModel(**UNET), dtype),
        vae=materialize(lambda: AutoencoderKL(**VAE), dtype),
        tokenizer=None, tokenizer_2=None, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip


def load_pipeline(path, dtype):
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline.from_pretrained(path, torch_dtype=dtype, add_watermarker=False)
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    return pipe


class Job:
    """The parts of one image, each callable alone on the outputs of the parts before it."""

    def __init__(self, pipe, size, dtype):
        import torch

        # bfloat16 has fp32's range, so the decoder stays in it; diffusers would otherwise upcast for force_upcast.
        pipe.vae.register_to_config(force_upcast=False)
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self.size = pipe, size
        vocabulary = pipe.text_encoder.config.vocab_size
        self.ids = torch.full((1, 77), vocabulary - 1)
        self.ids[0, :9] = torch.arange(9) % (vocabulary - 2)
        self.ids[0, 0] = vocabulary - 2
        self.generator = torch.Generator().manual_seed(0)
        f = pipe.vae_scale_factor
        self.latents = torch.randn((1, 4, size // f, size // f), generator=self.generator).to(dtype)
        self.context, self.pooled = self.text()
        self.time_ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=dtype)

    def text(self):
        import torch

        first = self.pipe.text_encoder(self.ids, output_hidden_states=True).hidden_states[-2]
        second = self.pipe.text_encoder_2(self.ids, output_hidden_states=True)
        return torch.cat([first, second.hidden_states[-2]], dim=-1), second.text_embeds

    def unet(self):
        added = {"text_embeds": self.pooled, "time_ids": self.time_ids}
        return self.pipe.unet(self.latents, 999, self.context, added_cond_kwargs=added, return_dict=False)[0]

    def vae(self):
        return self.pipe.vae.decode(self.latents, return_dict=False)[0]

    def image(self):
        context, pooled = self.text()
        return self.pipe(
            prompt_embeds=context, pooled_prompt_embeds=pooled, num_inference_steps=1, guidance_scale=0.0,
            height=self.size, width=self.size, generator=self.generator, output_type="pil",
        ).images  # fmt: skip


def percentile(values, q):
    ordered = sorted(values)
    at = (len(ordered) - 1) * q
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def device_name():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return f"{names[0]}, {len(os.sched_getaffinity(0))} cores" if names else platform.processor()


def measure(args, precision):
    import diffusers
    import torch

    torch.set_num_threads(args.threads)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    with torch.inference_mode():
        pipe = load_pipeline(args.model, dtype) if args.model else random_pipeline(dtype)
        modules = (pipe.text_encoder, pipe.text_encoder_2, pipe.unet, pipe.vae)
        weights = sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
        if args.channels_last:
            pipe.unet.to(memory_format=torch.channels_last)
            pipe.vae.to(memory_format=torch.channels_last)
        if args.compile:
            pipe.unet = torch.compile(pipe.unet)
            pipe.vae.decode = torch.compile(pipe.vae.decode)
        job = Job(pipe, args.size, dtype)
        peer = f"diffusers {diffusers.__version__}, torch {torch.__version__}"
        peer += " compiled" if args.compile else " eager"
        peer += ", channels last" if args.channels_last else ""
        shapes = "turbo" if not args.model else os.path.basename(os.path.normpath(args.model))
        for part in args.parts:
            call = getattr(job, part)
            for _ in range(args.warmup):
                call()
            times = []
            for _ in range(args.repeats):
                begin = time.perf_counter()
                call()
                times.append((time.perf_counter() - begin) * 1e3)
            row = {
                "workload": f"{shapes}_{part}_{args.size}_s1_cpu",
                "precision": precision,
                "median_ms": round(statistics.median(times), 3),
                "p10_ms": round(percentile(times, 0.1), 3),
                "p90_ms": round(percentile(times, 0.9), 3),
                "runs": args.repeats,
                "device": device_name(),
                "threads": args.threads,
                "peer": peer,
                "command": shlex.join(["python", *sys.argv]),
            }
            if part == "image":
                row["peak_rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
                row["weights_mib"] = round(weights / 2**20)
            print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument(
        "--parts", nargs="+", choices=("image", "text", "unet", "vae"), default=["image", "text", "unet", "vae"]
    )
    parser.add_argument("--model", help="a diffusers SDXL folder instead of random full-size weights")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action="store_true", help="torch.compile the UNet and the VAE decoder")
    parser.add_argument("--channels-last", action="store_true", help="NHWC convolution weights")
    args = parser.parse_args()
    if len(args.precision) == 1:
        measure(args, args.precision[0])
        return
    for precision in args.precision:
        command = [sys.executable, *sys.argv, "--precision", precision]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
