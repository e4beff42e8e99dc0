"""Trains the UNet and both text encoders of emoji-xl together, one slice of time per call.

  python train_unet.py --data DIR --tokenizers DIR --state DIR --total 1200 --slice 480

Needs vae.safetensors in the state folder (train_vae.py). Objective: v-prediction under the SDXL
noise schedule, plain mean squared error. 8 % of the prompts are dropped to zeros (what the pipeline
uses for an empty negative prompt) and 2 % are the encoded empty text. The state folder receives
latents.pt, unet_state.pt (resumes the training), unet_log.jsonl and model/ (averaged weights).
"""

import argparse
import json
import pathlib
import time

import safetensors.torch
import torch
import torch.nn.functional as F

import captions
import images
import latents
import model
import slices


def alphas_cumprod(device):
    s = model.SCHEDULER
    betas = torch.linspace(s["beta_start"]**0.5, s["beta_end"]**0.5, s["num_train_timesteps"],
                           dtype=torch.float64)**2
    return (1 - betas).cumprod(0).float().to(device)


class Text(torch.nn.Module):
    """Both text encoders as the SDXL pipeline uses them."""

    def __init__(self, encoders):
        super().__init__()
        self.one, self.two = encoders

    def forward(self, tokens):
        a = self.one(tokens, output_hidden_states=True)
        b = self.two(latents.second_tokens(tokens), output_hidden_states=True)
        return torch.cat([a.hidden_states[-2], b.hidden_states[-2]], dim=-1), b.text_embeds


def drop_prompts(tokens, context, pooled, p_zero):
    keep = (torch.rand(len(tokens), device=tokens.device) >= p_zero).to(context.dtype)
    return context * keep.view(-1, 1, 1), pooled * keep.view(-1, 1)


def add_noise(x0, noise, t, acp, missing=None):
    """x_t and the v target. Rows in `missing` get pure noise, as the sampler's first step does."""
    a, s = acp[t].sqrt().view(-1, 1, 1, 1), (1 - acp[t]).sqrt().view(-1, 1, 1, 1)
    xt = a * x0 + s * noise
    if missing is not None:
        xt = torch.where(missing.view(-1, 1, 1, 1), noise, xt)
    return xt, a * noise - s * x0


@torch.no_grad()
def validation_loss(unet, text, table, rows, acp, device):
    """v loss with fixed noise, over a fixed grid of timesteps."""
    g = torch.Generator(device).manual_seed(3)
    x0 = table.latent[rows].float()
    tokens = table.tokens[table.caption_start[rows]].long()
    losses = {}
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        context, pooled = text(tokens)
        for t in (50, 250, 500, 750, 950):
            ts = torch.full((len(rows),), t, device=device)
            noise = torch.randn(x0.shape, generator=g, device=device)
            xt, target = add_noise(x0, noise, ts, acp)
            v = unet(xt, ts, encoder_hidden_states=context,
                     added_cond_kwargs={"text_embeds": pooled, "time_ids": table.time_ids[rows].float()}).sample
            losses[t] = round(F.mse_loss(v.float(), target).item(), 5)
    return losses


def load_vae(state_dir, device, scaling=1.0):
    vae = model.make_vae(scaling)
    vae.load_state_dict(safetensors.torch.load_file(state_dir / "vae.safetensors"))
    return vae.float().to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def load_table(args, state_dir, records, device):
    rgba = None
    if not (state_dir / "latents.pt").exists():
        rgba = images.load_rgba(f"{args.data}/images", records, state_dir / "rgba.npy")
    return latents.load_or_build(state_dir / "latents.pt", load_vae(state_dir, device), rgba, records,
                                 model.load_tokenizers(args.tokenizers)[0], device,
                                 limit=args.limit).to(device)


def export(state_dir, tokenizers, scaling, encoders, unet):
    """Writes model/ in fp16 from copies of the (averaged) modules."""
    new_encoders = model.make_text_encoders()
    for new, old in zip(new_encoders, encoders):
        new.load_state_dict(old.state_dict())
    new_unet = model.make_unet()
    new_unet.load_state_dict(unet.state_dict())
    model.save_pipeline(state_dir / "model", tokenizers, load_vae(state_dir, "cpu", scaling), new_encoders,
                        new_unet)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--data", required=True)
    ap.add_argument("--tokenizers", required=True)
    ap.add_argument("--state", required=True)
    ap.add_argument("--total", type=float, default=1200, help="seconds of training in all")
    ap.add_argument("--slice", type=float, default=480, help="seconds of training in this call")
    ap.add_argument("--deadline", type=float, default=540, help="the loop ends this many seconds after the start")
    ap.add_argument("--batch", type=int, default=512)
    ap.add_argument("--lr", type=float, default=8e-4)
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--max-steps", type=int, default=10**9)
    ap.add_argument("--limit", type=int, default=None, help="use only the first records (smoke test)")
    ap.add_argument("--device", default="cuda")
    args = ap.parse_args()
    device, state_dir = args.device, pathlib.Path(args.state)
    torch.manual_seed(2)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    cuda = device == "cuda"

    began = time.monotonic()
    step, clock = 0, slices.Clock(args.total, args.slice, args.deadline)
    records = captions.load_records(f"{args.data}/captions.tsv")
    table = load_table(args, state_dir, records, device)
    weights = latents.row_weights(table, records).to(device)
    white = table.kind == latents.WHITE
    held = torch.tensor([r.held_out for r in records], device=device)[table.record]
    probe = {"held": (white & held).nonzero().flatten()[:128], "train": (white & ~held).nonzero().flatten()[::25][:128]}
    print(f"table {len(table.latent)} rows, scaling {table.scaling:.4f}, {time.monotonic() - began:.1f} s", flush=True)

    acp = alphas_cumprod(device)
    unet = model.make_unet().to(device, memory_format=torch.channels_last)
    text = Text(model.make_text_encoders()).to(device)
    params = [p for p in [*unet.parameters(), *text.parameters()] if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=cuda)
    ema = slices.Ema(params, 0.9995)
    saved = slices.newest(state_dir / "unet_state.pt")
    if saved:
        unet.load_state_dict(saved["unet"])
        text.load_state_dict(saved["text"])
        opt.load_state_dict(saved["opt"])
        ema.shadow = [t.to(device) for t in saved["ema"]]
        step, clock.done_before = saved["step"], saved["seconds"]
    torch.manual_seed(100 + step)
    run = torch.compile(unet) if args.compile else unet
    empty = model.load_tokenizers(args.tokenizers)[0]("", padding="max_length", max_length=77,
                                                      return_tensors="pt").input_ids.to(device)
    first, window, mean_loss = step, time.monotonic(), torch.zeros((), device=device)
    while not clock.slice_over() and step - first < args.max_steps:
        for group in opt.param_groups:
            group["lr"] = slices.learning_rate(args.lr, step, 500, clock.progress())
        rows = table.sample_rows(weights, args.batch)
        tokens = table.sample_tokens(rows)
        tokens = torch.where(torch.rand(args.batch, 1, device=device) < 0.02, empty, tokens)
        x0 = table.latent[rows].float()
        noise = torch.randn_like(x0)
        t = torch.randint(0, 1000, (args.batch,), device=device)
        missing = (t >= 930) & (torch.rand(args.batch, device=device) < 0.25)
        xt, target = add_noise(x0, noise, t, acp, missing)
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            context, pooled = drop_prompts(tokens, *text(tokens), 0.08)
            v = run(xt.contiguous(memory_format=torch.channels_last), t, encoder_hidden_states=context,
                    added_cond_kwargs={"text_embeds": pooled, "time_ids": table.time_ids[rows].float()},
                    return_dict=False)[0]
        loss = F.mse_loss(v.float(), target)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([p for p in params if p.grad is not None], 1.0)
        opt.step()
        step += 1
        ema.update(step)
        mean_loss += loss.detach()
        if step == first + 3:
            if cuda:
                torch.cuda.synchronize()
            clock.begin()
            print(f"warm-up {time.monotonic() - began:.1f} s", flush=True)
        if step % 200 == 0 or step <= 3:
            now = time.monotonic()
            n = 200 if step % 200 == 0 and step - first >= 200 else 1
            row = {"step": step, "seconds": round(clock.done(), 1), "loss": round(mean_loss.item() / n, 5),
                   "grad": round(norm.item(), 4), "step_s": round((now - window) / n, 4)}
            mean_loss.zero_()
            window = now
            if step % 2000 == 0:
                ema.swap()
                row["val"] = {k: validation_loss(unet, text, table, v, acp, device) for k, v in probe.items()}
                ema.swap()
            slices.append_log(state_dir / "unet_log.jsonl", row)
            print(row, flush=True)
    torch.save({"unet": unet.state_dict(), "text": text.state_dict(), "opt": opt.state_dict(),
                "ema": ema.shadow, "step": step, "seconds": clock.done()}, state_dir / "unet_state.pt")
    ema.swap()
    report = {"step": step, "seconds": clock.done(), "batch": args.batch,
              "val": {k: validation_loss(unet, text, table, v, acp, device) for k, v in probe.items() if len(v)}}
    (state_dir / "unet_report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report), flush=True)
    export(state_dir, args.tokenizers, table.scaling, (text.one, text.two), unet)
    print(f"all {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
