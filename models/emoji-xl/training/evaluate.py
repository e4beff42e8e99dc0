"""Measures how often a prompt gives the right emoji, for several step counts, and draws sheets.

  python evaluate.py --model MODEL_DIR --lora LORA --data DIR --out DIR [--device cuda]

Gallery: every picture of the training part on white, encoded by the model's own VAE. A generated
picture is encoded too and its nearest gallery pictures by Euclidean distance of the latents are
found. "Strict": one of the five nearest carries exactly the prompted name. "Concept": skin-tone
variants of the name count as well. Names are 200 base emoji of the training part, drawn with a fixed
seed; the held-out names were never seen, so no gallery picture carries them and only their sheet is
shown.
"""

import argparse
import json
import pathlib
import random
import time

import torch
import torch.nn.functional as F
from diffusers import (EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler,
                       StableDiffusionXLPipeline)

import captions
import images

SETTINGS = {
    "euler20_g5": dict(lora=False, scheduler="euler", steps=20, guidance=5.0),
    "euler4_g3": dict(lora=False, scheduler="euler", steps=4, guidance=3.0),
    "base_lcm4": dict(lora=False, scheduler="lcm", steps=4, guidance=0.0),
    "turbo1": dict(lora=False, scheduler="euler_a_trailing", steps=1, guidance=0.0),
    "lcm4": dict(lora=True, scheduler="lcm", steps=4, guidance=0.0),
    "lcm1": dict(lora=True, scheduler="lcm", steps=1, guidance=0.0),
}
COMPOSITIONS = (
    "a blue cat", "a pizza with sunglasses", "a green rocket", "a red dog on a blue background",
    "a cat and a dog", "a purple octopus with a crown", "an astronaut riding a horse", "a robot eating a hamburger",
    "a red apple on a yellow background", "a pink automobile", "three strawberries", "a snowman on a beach",
)


def pick_names(records, count, seed=11):
    names = sorted({r.name for r in records if not r.variant and not r.held_out})
    return random.Random(seed).sample(names, min(count, len(names)))


def load_pipeline(model_dir, lora, device, dtype):
    pipe = StableDiffusionXLPipeline.from_pretrained(model_dir, torch_dtype=dtype).to(device)
    pipe.set_progress_bar_config(disable=True)
    if lora:
        pipe.load_lora_weights(lora)
        pipe.fuse_lora()
    return pipe


def set_scheduler(pipe, name):
    config = dict(pipe.scheduler.config)
    if name == "lcm":
        pipe.scheduler = LCMScheduler.from_config(config)
    elif name == "euler_a_trailing":
        pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(config, timestep_spacing="trailing")
    else:
        pipe.scheduler = EulerDiscreteScheduler.from_config(config, timestep_spacing="leading")


def generate(pipe, prompts, steps, guidance, seed=1234, batch=50):
    """Pictures in [-1,1]; picture i uses the CPU generator seed + i."""
    out = []
    for i in range(0, len(prompts), batch):
        part = prompts[i:i + batch]
        gens = [torch.Generator("cpu").manual_seed(seed + i + k) for k in range(len(part))]
        x = pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=gens, output_type="pt").images
        out.append(x.float().mul(2).sub(1).cpu())
    return torch.cat(out)


@torch.no_grad()
def encode(vae, x, device, batch=64):
    """Feature vectors of pictures: latents of `vae`, or 32x32 colour averages when `vae` is None."""
    if vae is None:
        return F.adaptive_avg_pool2d(x, 32).flatten(1).to(device)
    parts = [vae.encode(p.to(device, vae.dtype)).latent_dist.mode().float().flatten(1) for p in x.split(batch)]
    return torch.cat(parts)


def gallery_images(rgba, records):
    chosen = [r for r in records if not r.held_out and r.index < len(rgba)]
    for i in range(0, len(chosen), 128):
        part = chosen[i:i + 128]
        colour, alpha = images.split_alpha(rgba[torch.tensor([r.index for r in part])])
        yield part, images.composite(colour, alpha, torch.ones(len(part), 3))


def score(latents, prompts, gallery, gallery_records):
    """Top-1 and top-5 hit rates, and the prompts that miss with what was nearest."""
    order = torch.cdist(latents, gallery).topk(5, largest=False).indices.tolist()
    top1 = top5 = concept5 = 0
    misses = []
    for prompt, near in zip(prompts, order):
        names = [gallery_records[k].name for k in near]
        top1 += names[0] == prompt
        top5 += prompt in names
        concept5 += prompt in names or prompt in [gallery_records[k].concept for k in near]
        if prompt not in names:
            misses.append({"prompt": prompt, "nearest": names})
    n = len(prompts)
    return {"n": n, "top1": top1 / n, "top5": top5 / n, "top5_concept": concept5 / n, "misses": misses}


def sheet(x, columns, path, size=128):
    images.grid([images.to_pil(v).resize((size, size)) for v in x], columns).save(path, optimize=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--model", required=True)
    ap.add_argument("--lora", default=None)
    ap.add_argument("--data", required=True)
    ap.add_argument("--cache", default=None, help=".npy of the decoded pictures, shared with the training")
    ap.add_argument("--out", required=True)
    ap.add_argument("--names", type=int, default=200)
    ap.add_argument("--first", type=int, default=None, help="use only the first of those names")
    ap.add_argument("--features", choices=("latents", "pixels"), default="latents")
    ap.add_argument("--sheets", action="store_true", help="also draw compositions and held-out names")
    ap.add_argument("--batch", type=int, default=50)
    ap.add_argument("--limit", type=int, default=None, help="gallery of the first records only (smoke test)")
    ap.add_argument("--settings", nargs="*", default=list(SETTINGS))
    ap.add_argument("--device", default="cuda")
    args = ap.parse_args()
    device, out = args.device, pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if device == "cuda" else torch.float32
    records = captions.load_records(f"{args.data}/captions.tsv")
    rgba = images.load_rgba(f"{args.data}/images", records, args.cache)
    rgba = rgba[:args.limit] if args.limit else rgba
    names = pick_names([r for r in records if r.index < len(rgba)], args.names)[:args.first]
    held = sorted({r.name for r in records if r.held_out and not r.variant})[:24]
    report, pipes, gallery, gallery_records = {"names": names, "features": args.features}, {}, [], []
    for key in args.settings:
        s = SETTINGS[key]
        if s["lora"] and not args.lora:
            continue
        if s["lora"] not in pipes:
            pipes[s["lora"]] = load_pipeline(args.model, args.lora if s["lora"] else None, device, dtype)
        pipe = pipes[s["lora"]]
        set_scheduler(pipe, s["scheduler"])
        if not gallery_records:
            vae = pipe.vae if args.features == "latents" else None
            for part, x in gallery_images(rgba, records):
                gallery.append(encode(vae, x, device))
                gallery_records += part
            gallery = torch.cat(gallery)
        began = time.monotonic()
        x = generate(pipe, names, s["steps"], s["guidance"], batch=args.batch)
        seconds = time.monotonic() - began
        result = score(encode(vae, x, device), names, gallery, gallery_records)
        report[key] = {**result, "seconds": round(seconds, 2), **s}
        print(key, {k: v for k, v in report[key].items() if k != "misses"}, flush=True)
        sheet(x[:100], 10, out / f"names_{key}.png", 96)
        if args.sheets and key in ("euler20_g5", "base_lcm4", "lcm4"):
            sheet(generate(pipe, list(COMPOSITIONS), s["steps"], s["guidance"]), 6, out / f"compositions_{key}.png")
            sheet(generate(pipe, held, s["steps"], s["guidance"]), 8, out / f"held_out_{key}.png", 96)
        missed = [names.index(m["prompt"]) for m in result["misses"][:24]]
        if missed:
            sheet(x[missed], 8, out / f"misses_{key}.png", 96)
    report["held_out_names"] = held
    (out / "evaluation.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
