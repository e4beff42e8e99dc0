"""Trains the f8 4-channel autoencoder of emoji-xl, one slice of time per call.

  python train_vae.py --data DIR --state DIR --total 420 --slice 420

DIR of the data holds captions.tsv and images/. The state folder receives vae_state.pt (resumes the
training), vae.safetensors (averaged weights, fp16), vae_log.jsonl and, at the end, vae_report.json.
"""

import argparse
import json
import pathlib
import random
import time

import safetensors.torch
import torch
import torch.nn.functional as F

import captions
import images
import model
import slices


def pyramid_loss(out, ref):
    """L1 on the picture, on three coarser versions and on its first differences, plus an MSE term."""
    loss = F.l1_loss(out, ref) + 2 * F.mse_loss(out, ref)
    loss = loss + 0.5 * F.l1_loss(out[..., 1:] - out[..., :-1], ref[..., 1:] - ref[..., :-1])
    loss = loss + 0.5 * F.l1_loss(out[..., 1:, :] - out[..., :-1, :], ref[..., 1:, :] - ref[..., :-1, :])
    for _ in range(3):
        out, ref = F.avg_pool2d(out, 2), F.avg_pool2d(ref, 2)
        loss = loss + 0.5 * F.l1_loss(out, ref)
    return loss


class Step(torch.nn.Module):
    """Autoencoder with its loss, so that one compiled graph holds both."""

    def __init__(self, vae, kl_weight):
        super().__init__()
        self.vae, self.kl_weight = vae, kl_weight

    def forward(self, x, noise):
        moments = self.vae.quant_conv(self.vae.encoder(x)).float()
        mean, logvar = moments.chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        z = mean + torch.exp(0.5 * logvar) * noise
        out = self.vae.decoder(self.vae.post_quant_conv(z)).float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        rec = pyramid_loss(out, x)
        return rec + self.kl_weight * kl, rec.detach(), kl.detach()


def make_batch(rgba, ids, rng, device):
    colour, alpha = images.split_alpha(rgba[ids])
    tinted = images.tint(colour, images.random_ramps(len(ids), device, rng))
    use = torch.tensor([rng.random() < 0.15 for _ in range(len(ids))], device=device).view(-1, 1, 1, 1)
    colour = torch.where(use, tinted, colour)
    x = images.composite(colour, alpha, images.random_backgrounds(len(ids), device, rng))
    flip = torch.tensor([rng.random() < 0.5 for _ in range(len(ids))], device=device).view(-1, 1, 1, 1)
    return torch.where(flip, x.flip(3), x).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(vae, rgba, ids, device, background, limit=256):
    """Mean and worst PSNR of reconstruction from the latent mean."""
    ids = ids[:limit]
    psnr, latents = [], []
    for part in torch.tensor(ids).split(32):
        colour, alpha = images.split_alpha(rgba[part.to(rgba.device)].to(device))
        x = images.composite(colour, alpha, images.colour_tensor([background] * len(part), device))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            z = vae.encode(x).latent_dist.mode()
            y = vae.decode(z).sample.float()
        # PSNR of the 8-bit pictures, peak 255
        a, b = ((v.clamp(-1, 1) + 1) * 127.5 for v in (x, y))
        mse = (a.round() - b.round()).square().mean((1, 2, 3))
        psnr += (10 * torch.log10(255**2 / mse.clamp_min(1e-9))).tolist()
        latents.append(z.float())
    z = torch.cat(latents)
    return {"n": len(ids), "psnr_mean": sum(psnr) / len(psnr), "psnr_min": min(psnr),
            "latent_std": z.std().item(), "latent_mean": z.mean().item()}


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--data", required=True)
    ap.add_argument("--state", required=True)
    ap.add_argument("--total", type=float, default=420, help="seconds of training in all")
    ap.add_argument("--slice", type=float, default=420, help="seconds of training in this call")
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--lr", type=float, default=5e-4)
    ap.add_argument("--kl", type=float, default=2e-3)
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--max-steps", type=int, default=10**9)
    ap.add_argument("--device", default="cuda")
    args = ap.parse_args()
    device, state_dir = args.device, pathlib.Path(args.state)
    state_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True

    began = time.monotonic()
    records = captions.load_records(f"{args.data}/captions.tsv")
    rgba = images.load_rgba(f"{args.data}/images", records, state_dir / "rgba.npy").to(device)
    train_ids = torch.tensor([r.index for r in records if not r.held_out], device=device)
    weights = torch.tensor([0.4 if r.variant else 1.0 for r in records if not r.held_out], device=device)
    held_ids = [r.index for r in records if r.held_out]
    print(f"data: {len(train_ids)} train, {len(held_ids)} held out, {time.monotonic() - began:.1f} s", flush=True)

    vae = model.make_vae().to(device, memory_format=torch.channels_last)
    step_module = Step(vae, args.kl)
    opt = torch.optim.AdamW(vae.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4,
                            fused=device == "cuda")
    ema = slices.Ema(vae.parameters(), 0.998)
    step, clock = 0, slices.Clock(args.total, args.slice)
    saved = slices.newest(state_dir / "vae_state.pt")
    if saved:
        vae.load_state_dict(saved["vae"])
        opt.load_state_dict(saved["opt"])
        ema.shadow = [t.to(device) for t in saved["ema"]]
        step, clock.done_before = saved["step"], saved["seconds"]
    run = torch.compile(step_module) if args.compile else step_module
    rng = random.Random(1000 + step)
    first = step
    while not clock.slice_over() and step - first < args.max_steps:
        for group in opt.param_groups:
            group["lr"] = slices.learning_rate(args.lr, step, 200, clock.progress())
        ids = train_ids[torch.multinomial(weights, args.batch, replacement=False)]
        x = make_batch(rgba, ids, rng, device)
        noise = torch.randn(args.batch, 4, 32, 32, device=device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss, rec, kl = run(x, noise)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        step += 1
        ema.update(step)
        if step == first + 3:
            if device == "cuda":
                torch.cuda.synchronize()
            clock.begin()
            print(f"warm-up {time.monotonic() - began:.1f} s", flush=True)
        if step % 100 == 0 or step <= 3:
            row = {"step": step, "seconds": round(clock.done(), 1), "loss": loss.item(), "rec": rec.item(),
                   "kl": kl.item(), "grad": norm.item()}
            slices.append_log(state_dir / "vae_log.jsonl", row)
            print(row, flush=True)
    seconds = clock.done()
    torch.save({"vae": vae.state_dict(), "opt": opt.state_dict(), "ema": ema.shadow, "step": step,
                "seconds": seconds}, state_dir / "vae_state.pt")
    ema.swap()
    vae.eval()
    train_probe = [r.index for r in records if not r.held_out][::27]
    report = {"step": step, "seconds": seconds, "samples": step * args.batch,
              "held_white": evaluate(vae, rgba, held_ids, device, (255, 255, 255)),
              "held_blue": evaluate(vae, rgba, held_ids, device, captions.BACKGROUNDS["blue"]),
              "train_white": evaluate(vae, rgba, train_probe, device, (255, 255, 255))}
    (state_dir / "vae_report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report), flush=True)
    safetensors.torch.save_file({k: v.half().contiguous() for k, v in vae.state_dict().items()},
                                state_dir / "vae.safetensors")
    sheet = []
    for i in held_ids[:24]:
        colour, alpha = images.split_alpha(rgba[i:i + 1])
        x = images.composite(colour, alpha, images.colour_tensor([(255, 255, 255)], device))
        with torch.no_grad():
            y = vae.decode(vae.encode(x).latent_dist.mode()).sample
        sheet += [images.to_pil(x[0]), images.to_pil(y[0])]
    images.grid(sheet, 8).resize((1040, 780)).save(state_dir / "vae_sheet.png")


if __name__ == "__main__":
    main()
