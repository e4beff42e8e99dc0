"""Distils emoji-xl into an LCM-LoRA (kohya keys), one slice of time per call.

  python distill_lcm.py --data DIR --model MODEL_DIR --state DIR --total 300 --slice 300 --out lora.safetensors

Latent consistency distillation as LCM-LoRA does it: the teacher with guidance makes one DDIM step of
20 training timesteps, the student must predict the same picture from both ends of that step. Half of
each batch starts from pure noise or lies on the four timesteps that the LCM scheduler uses.
"""

import argparse
import json
import pathlib
import time

import safetensors.torch
import torch
from diffusers import StableDiffusionXLPipeline

import captions
import latents
import slices
import train_unet

RANK = 16
LINEAR_NAMES = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
                "time_emb_proj")
CONV_NAMES = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")
LCM_STEPS = (999, 759, 499, 259)


class LoraLayer(torch.nn.Module):
    """Linear or convolution with a trained low-rank addition (alpha = rank, so scale 1).

    `gate` is a shared scalar: 1 for the student, 0 for the teacher (same graph, compiled once).
    """

    def __init__(self, base, gate):
        super().__init__()
        self.base, self.gate = base, gate
        if isinstance(base, torch.nn.Linear):
            self.down = torch.nn.Linear(base.in_features, RANK, bias=False)
            self.up = torch.nn.Linear(RANK, base.out_features, bias=False)
        else:
            rank = RANK // 2 if base.kernel_size == (3, 3) else RANK
            self.down = torch.nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding,
                                        bias=False)
            self.up = torch.nn.Conv2d(rank, base.out_channels, 1, bias=False)
        torch.nn.init.normal_(self.down.weight, std=1 / self.down.weight.shape[0])
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, x, *args):
        return self.base(x) + self.up(self.down(x)) * self.gate.to(x.dtype)


def inject(unet, gate):
    """Replaces the target layers in place; returns {path: LoraLayer}."""
    found = {}
    for path, module in list(unet.named_modules()):
        ends = LINEAR_NAMES if isinstance(module, torch.nn.Linear) else CONV_NAMES
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and path.endswith(ends):
            found[path] = LoraLayer(module, gate)
    for path, layer in found.items():
        parent, _, name = path.rpartition(".")
        setattr(unet.get_submodule(parent), name, layer)
    return found


def kohya_state(layers):
    state = {}
    for path, layer in layers.items():
        key = "lora_unet_" + path.replace(".", "_")
        state[f"{key}.lora_down.weight"] = layer.down.weight.detach().half().cpu().contiguous()
        state[f"{key}.lora_up.weight"] = layer.up.weight.detach().half().cpu().contiguous()
        state[f"{key}.alpha"] = torch.tensor(float(layer.down.weight.shape[0]), dtype=torch.float16)
    return state


def column(values):
    return values.view(-1, 1, 1, 1)


def split_prediction(v, x, t, acp):
    """(x0, eps) of a v prediction."""
    a, s = column(acp[t].sqrt()), column((1 - acp[t]).sqrt())
    return a * x - s * v, a * v + s * x


def consistency(x0, x, t):
    """LCM boundary condition: identity at t = 0 (sigma_data 0.5, timestep scaling 10)."""
    scaled = column(t.float()) * 10
    skip = 0.25 / (scaled**2 + 0.25)
    return skip * x + scaled / (scaled**2 + 0.25).sqrt() * x0


def huber(a, b, c=0.03):
    return ((a - b).square() + c * c).sqrt().mean() - c


def sample_timesteps(n, device, stride=20):
    """t = 20 k + 19; half of them on the scheduler's own four steps."""
    t = torch.randint(0, 50, (n,), device=device) * stride + stride - 1
    own = torch.tensor(LCM_STEPS, device=device)[torch.randint(0, 4, (n,), device=device)]
    return torch.where(torch.rand(n, device=device) < 0.5, own, t)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--data", required=True)
    ap.add_argument("--model", required=True, help="trained model folder")
    ap.add_argument("--state", required=True, help="folder with vae.safetensors and, once made, latents.pt")
    ap.add_argument("--out", required=True)
    ap.add_argument("--total", type=float, default=300)
    ap.add_argument("--slice", type=float, default=300)
    ap.add_argument("--deadline", type=float, default=540, help="the loop ends this many seconds after the start")
    ap.add_argument("--batch", type=int, default=384)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--guidance", type=float, nargs=2, default=(3.0, 6.0))
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--max-steps", type=int, default=10**9)
    ap.add_argument("--limit", type=int, default=None)
    ap.add_argument("--device", default="cuda")
    args = ap.parse_args()
    args.tokenizers = args.model
    device, state_dir = args.device, pathlib.Path(args.state)
    torch.manual_seed(4)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    cuda = device == "cuda"

    step, clock = 0, slices.Clock(args.total, args.slice, args.deadline)
    records = captions.load_records(f"{args.data}/captions.tsv")
    table = train_unet.load_table(args, state_dir, records, device)
    weights = latents.row_weights(table, records).to(device)
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    unet = pipe.unet.requires_grad_(False)
    gate = torch.ones((), device=device)
    layers = inject(unet, gate)
    unet.to(device, memory_format=torch.channels_last)
    text = train_unet.Text((pipe.text_encoder, pipe.text_encoder_2)).to(device).requires_grad_(False)
    params = [p for layer in layers.values() for p in (layer.down.weight, layer.up.weight)]
    print(f"{len(layers)} layers, {sum(p.numel() for p in params)} LoRA parameters", flush=True)
    opt = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=cuda)
    ema = slices.Ema(params, 0.998)
    saved = slices.newest(state_dir / "lcm_state.pt")
    if saved:
        for p, value in zip(params, saved["params"]):
            p.data.copy_(value)
        opt.load_state_dict(saved["opt"])
        ema.shadow = [t.to(device) for t in saved["ema"]]
        step, clock.done_before = saved["step"], saved["seconds"]
    acp = train_unet.alphas_cumprod(device)
    run = torch.compile(unet) if args.compile else unet
    first, window = step, time.monotonic()
    n = args.batch
    while not clock.slice_over() and step - first < args.max_steps:
        for group in opt.param_groups:
            group["lr"] = slices.learning_rate(args.lr, step, 100, clock.progress())
        rows = table.sample_rows(weights, n)
        ids = table.time_ids[rows].float()
        x0 = table.latent[rows].float()
        t = sample_timesteps(n, device)
        t_next = (t - 20).clamp_min(0)
        noise = torch.randn_like(x0)
        missing = (t >= 930) & (torch.rand(n, device=device) < 0.5)
        x, _ = train_unet.add_noise(x0, noise, t, acp, missing)
        w = column(torch.empty(n, device=device).uniform_(*args.guidance))
        def predict(x, t, context, pooled):
            v = run(x.contiguous(memory_format=torch.channels_last), t, encoder_hidden_states=context,
                    added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}, return_dict=False)[0]
            return v.float()

        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            with torch.no_grad():
                context, pooled = text(table.sample_tokens(rows))
            # The teacher and the target run the training graph too, so that one compiled graph serves all.
            gate.fill_(0)
            v_cond = predict(x, t, context, pooled).detach()
            v_uncond = predict(x, t, torch.zeros_like(context), torch.zeros_like(pooled)).detach()
            gate.fill_(1)
            px0, eps = split_prediction(v_uncond + w * (v_cond - v_uncond), x, t, acp)
            x_next = column(acp[t_next].sqrt()) * px0 + column((1 - acp[t_next]).sqrt()) * eps
            v_next = predict(x_next, t_next, context, pooled).detach()
            goal = consistency(split_prediction(v_next, x_next, t_next, acp)[0], x_next, t_next)
            goal = torch.where(column(t < 20), px0, goal)
            v_student = predict(x, t, context, pooled)
        loss = huber(consistency(split_prediction(v_student, x, t, acp)[0], x, t), goal)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        ema.update(step)
        if step == first + 3:
            if cuda:
                torch.cuda.synchronize()
            clock.begin()
        if step % 100 == 0 or step <= 3:
            row = {"step": step, "seconds": round(clock.done(), 1), "loss": round(loss.item(), 5),
                   "step_s": round((time.monotonic() - window) / (100 if step > 3 else 1), 4)}
            window = time.monotonic()
            slices.append_log(state_dir / "lcm_log.jsonl", row)
            print(row, flush=True)
    torch.save({"params": [p.detach() for p in params], "opt": opt.state_dict(), "ema": ema.shadow, "step": step,
                "seconds": clock.done()}, state_dir / "lcm_state.pt")
    ema.swap()
    safetensors.torch.save_file(kohya_state(layers), args.out, metadata={"format": "pt"})
    print(json.dumps({"step": step, "seconds": clock.done(), "batch": n,
                      "bytes": pathlib.Path(args.out).stat().st_size}), flush=True)


if __name__ == "__main__":
    main()
