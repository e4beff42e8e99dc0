"""Measures how often a prompt gives the right emoji, for several settings, in three parts.

  python evaluate.py gallery --captions captions.tsv --data DIR --model MODEL_DIR --out gallery.npz
  python evaluate.py draw --captions captions.tsv --model MODEL_DIR --lora LORA --out DIR      pictures (GPU)
  python evaluate.py score --captions captions.tsv --gallery gallery.npz --drawn DIR/drawn.npz --out evaluation.json

Gallery: every picture of the training part on white, as latents of the model's own VAE and as 32x32
colour averages. The nearest gallery pictures of a generated one are found by Euclidean distance, by
its latents and by its pixels. It counts when one of the five nearest carries exactly the prompted
name. Names are 200 base emoji of the training part, drawn with a fixed seed. Every setting draws the
same 200 noises, so its pictures are also compared with those of 20 steps (latents, PSNR, SSIM) and
with the training picture of the prompted name.
"""

import argparse
import json
import pathlib
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (AutoencoderKL, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler,
                       StableDiffusionXLPipeline)

import captions
import images

SETTINGS = {
    "euler20_g5": dict(lora=False, scheduler="euler", steps=20, guidance=5.0),
    "base_lcm4": dict(lora=False, scheduler="lcm", steps=4, guidance=0.0),
    "base_lcm2": dict(lora=False, scheduler="lcm", steps=2, guidance=0.0),
    "base_turbo1": dict(lora=False, scheduler="euler_a_trailing", steps=1, guidance=0.0),
    "lcm4": dict(lora=True, scheduler="lcm", steps=4, guidance=0.0),
    "lcm2": dict(lora=True, scheduler="lcm", steps=2, guidance=0.0),
    "turbo1": dict(lora=True, scheduler="euler_a_trailing", steps=1, guidance=0.0),
}
REFERENCE = "euler20_g5"
COMPOSITIONS = (
    "a blue cat", "a pizza with sunglasses", "a green rocket", "a red dog on a blue background",
    "a cat and a dog", "a purple octopus with a crown", "an astronaut riding a horse", "a robot eating a hamburger",
    "a red apple on a yellow background", "a pink automobile", "three strawberries", "a snowman on a beach",
)


def pick_names(records, count, seed=11):
    names = sorted({r.name for r in records if not r.variant and not r.held_out})
    return random.Random(seed).sample(names, min(count, len(names)))


def held_out_names(records):
    return sorted({r.name for r in records if r.held_out and not r.variant})[:24]


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


@torch.no_grad()
def generate(pipe, prompts, steps, guidance, seed=1234, batch=50):
    """Latents and pictures in [-1,1]; picture i uses the CPU generator seed + i."""
    latents, pictures = [], []
    for i in range(0, len(prompts), batch):
        part = prompts[i:i + batch]
        gens = [torch.Generator("cpu").manual_seed(seed + i + k) for k in range(len(part))]
        z = pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=gens,
                 output_type="latent").images
        x = pipe.vae.decode(z.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor, return_dict=False)[0]
        latents.append(z.float().cpu())
        pictures.append(x.float().clamp(-1, 1).cpu())
    return torch.cat(latents), torch.cat(pictures)


def averages(x):
    """32x32 colour averages of pictures in [-1,1], as bytes."""
    return ((F.adaptive_avg_pool2d(x, 32).clamp(-1, 1) + 1) * 127.5).round().byte()


def feature_rows(stored):
    """Latents, or averages scaled to [-1,1], as rows."""
    x = torch.from_numpy(stored)
    return (x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x.float()).flatten(1)


def ssim(a, b):
    """Mean structural similarity of pictures in [0,1], 11x11 Gaussian window of sigma 1.5, per picture."""
    g = torch.exp(-(torch.arange(11.) - 5)**2 / (2 * 1.5**2)).to(a)
    window = (g[:, None] * g / g.sum()**2).expand(a.shape[1], 1, 11, 11)
    blur = lambda v: F.conv2d(v, window, groups=v.shape[1])
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))).mean((1, 2, 3))


def compare(pictures, wanted):
    """Mean PSNR and SSIM against pictures of the same noise."""
    a, b = ((x + 1) / 2 for x in (pictures, wanted))
    psnr = -10 * torch.log10((a - b).square().mean((1, 2, 3)).clamp_min(1e-10))
    similar = torch.cat([ssim(*parts) for parts in zip(a.split(50), b.split(50))])
    return {"psnr_db": round(psnr.mean().item(), 2), "ssim": round(similar.mean().item(), 4)}


def sheet(rows, path, size=96):
    """One row of pictures for each tensor in `rows`, all of one length."""
    tiles = [images.to_pil(v).resize((size, size)) for row in rows for v in row]
    images.grid(tiles, len(rows[0])).save(path, optimize=True)


@torch.no_grad()
def gallery(args):
    """Latents (scaled as the UNet sees them) and pixels of the training part, in the order of the captions file."""
    vae = AutoencoderKL.from_pretrained(f"{args.model}/vae").to(args.device)
    records = [r for r in captions.load_records(args.captions) if not r.held_out][args.first:args.last]
    out = {"latents": [], "pixels": []}
    for i in range(0, len(records), 64):
        part = records[i:i + 64]
        colour, alpha = images.split_alpha(images.load_rgba(f"{args.data}/images", part).to(args.device))
        x = images.composite(colour, alpha, torch.ones(len(part), 3, device=args.device))
        out["latents"].append((vae.encode(x).latent_dist.mode() * vae.config.scaling_factor).half().cpu())
        out["pixels"].append(averages(x).cpu())
    np.savez_compressed(args.out, files=np.array([r.file for r in records]), **{k: torch.cat(v) for k, v in out.items()})


def draw(args):
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if args.device == "cuda" else torch.float32
    records = captions.load_records(args.captions)
    names, held = pick_names(records, args.names), held_out_names(records)
    report, drawn, pipes, shown, extra = {"names": names}, {}, {}, {}, {}
    for key in args.settings:
        s = SETTINGS[key]
        if s["lora"] and not args.lora:
            continue
        if s["lora"] not in pipes:
            pipes[s["lora"]] = load_pipeline(args.model, args.lora if s["lora"] else None, args.device, dtype)
        pipe = pipes[s["lora"]]
        set_scheduler(pipe, s["scheduler"])
        began = time.monotonic()
        z, x = generate(pipe, names, s["steps"], s["guidance"], batch=args.batch)
        report[key] = {**s, "seconds": round(time.monotonic() - began, 2)}
        drawn[f"{key}.latents"], drawn[f"{key}.pixels"] = z.half(), averages(x)
        shown[key] = x
        if key != REFERENCE and REFERENCE in shown:
            report[key]["to_20_steps"] = {
                "latent_rmse": round((drawn[f"{REFERENCE}.latents"] - z).square().mean().sqrt().item(), 4),
                **compare(x, shown[REFERENCE])}
        if args.sheets:
            extra[key] = [generate(pipe, list(p), s["steps"], s["guidance"])[1] for p in (COMPOSITIONS, held)]
        print(key, report[key], flush=True)
    for i in range(0, min(60, len(names)), 20):
        sheet([x[i:i + 20] for x in shown.values()], out / f"names_{i}.png")
    for i, what in enumerate(("compositions", "held_out") if extra else ()):
        sheet([x[i] for x in extra.values()], out / f"{what}.png", 128)
    np.savez_compressed(out / "drawn.npz", **drawn)
    (out / "drawn.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))


def score(args):
    """Adds to drawn.json how often the right name is among the nearest, by latents and by pixels."""
    records = [r for r in captions.load_records(args.captions) if not r.held_out]
    by_file = {r.file: r for r in records}
    parts = [np.load(path) for path in args.gallery]
    order = [by_file[f] for p in parts for f in p["files"].tolist()]
    assert sorted(r.file for r in order) == sorted(by_file), "the gallery lacks pictures"
    drawn = np.load(args.drawn)
    report = json.loads(pathlib.Path(args.drawn).with_suffix(".json").read_text())
    names = report["names"]
    own = torch.tensor([next(i for i, r in enumerate(order) if r.name == n and not r.variant) for n in names])
    for features in ("latents", "pixels"):
        table = torch.cat([feature_rows(p[features]) for p in parts])
        for key in [k for k in report if k in SETTINGS]:
            found = feature_rows(drawn[f"{key}.{features}"])
            nearest = torch.cdist(found, table).topk(5, largest=False).indices.tolist()
            near = [[order[k].name for k in row] for row in nearest]
            report[key][features] = {
                "top1": sum(n == row[0] for n, row in zip(names, near)) / len(names),
                "top5": sum(n in row for n, row in zip(names, near)) / len(names),
                "rmse_to_training_picture": round((found - table[own]).square().mean().sqrt().item(), 4),
                "misses": [{"prompt": n, "nearest": row} for n, row in zip(names, near) if n not in row]}
            print(key, features, {k: v for k, v in report[key][features].items() if k != "misses"})
    pathlib.Path(args.out).write_text(json.dumps(report, indent=1, ensure_ascii=False))


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ap.add_subparsers(required=True)
    for part in (gallery, draw, score):
        sub = parts.add_parser(part.__name__)
        sub.set_defaults(run=part)
        sub.add_argument("--captions", required=True)
        sub.add_argument("--out", required=True)
        if part is not score:
            sub.add_argument("--model", required=True)
            sub.add_argument("--device", default="cuda")
        if part is gallery:
            sub.add_argument("--data", required=True, help="folder that holds images/")
            sub.add_argument("--first", type=int, default=None, help="a slice of the training part only")
            sub.add_argument("--last", type=int, default=None)
        if part is draw:
            sub.add_argument("--lora", default=None)
            sub.add_argument("--names", type=int, default=200)
            sub.add_argument("--batch", type=int, default=50)
            sub.add_argument("--sheets", action="store_true", help="also draw compositions and held-out names")
            sub.add_argument("--settings", nargs="*", default=list(SETTINGS))
        if part is score:
            sub.add_argument("--gallery", nargs="+", required=True, help="one or more slices")
            sub.add_argument("--drawn", required=True)
    args = ap.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
