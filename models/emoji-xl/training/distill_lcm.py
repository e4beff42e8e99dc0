"""Distils emoji-xl into an LCM-LoRA (kohya keys) without training pictures, one slice of time per call.

  python distill_lcm.py --captions captions.tsv --model MODEL_DIR --state DIR --total 300 --out lora.safetensors

Each round draws noise and captions and lets the guided teacher run a few DDIM steps to an end point.
The student, without guidance, must predict that end point from every timestep that the 4-step LCM
scheduler visits: from the teacher's own noise at the first one, from the re-noised end point at the
others, which is what the scheduler feeds it.
"""

import argparse
import json
import pathlib
import random

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
LCM_STEPS = (999, 759, 499, 259)  # diffusers' LCMScheduler, 4 steps


class LoraLayer(torch.nn.Module):
    """Linear or convolution with a trained low-rank addition (alpha = rank, so scale 1).

    `gate` is a shared scalar: 1 for the student, 0 for the teacher.
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
        if self.gate.item() == 0:
            return self.base(x)
        return self.base(x) + self.up(self.down(x))


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


def huber(a, b, c=0.03):
    return ((a - b).square() + c * c).sqrt().mean() - c


class Distiller:
    """Teacher and student in one UNet, told apart by the gate of the LoRA layers."""

    def __init__(self, model_dir, device):
        self.device = device
        pipe = StableDiffusionXLPipeline.from_pretrained(model_dir, torch_dtype=torch.float32)
        self.tokenizer = pipe.tokenizer
        self.unet = pipe.unet.requires_grad_(False)
        self.gate = torch.ones(())
        self.layers = inject(self.unet, self.gate)
        self.unet.to(device, memory_format=torch.channels_last)
        self.text = train_unet.Text((pipe.text_encoder, pipe.text_encoder_2)).to(device).requires_grad_(False)
        self.acp = train_unet.alphas_cumprod(device)

    def params(self):
        return [p for layer in self.layers.values() for p in (layer.down.weight, layer.up.weight)]

    def predict(self, x, t, context, pooled):
        """(x0, eps) of the network at the integer timestep t [n]."""
        ids = x.new_tensor([256, 256, 0, 0, 256, 256]).expand(len(x), 6)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            v = self.unet(x.contiguous(memory_format=torch.channels_last), t, encoder_hidden_states=context,
                          added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}, return_dict=False)[0]
        a, s = column(self.acp[t].sqrt()), column((1 - self.acp[t]).sqrt())
        return a * x - s * v.float(), a * v.float() + s * x

    @torch.no_grad()
    def encode(self, prompts):
        tokens = latents.tokenize(self.tokenizer, prompts).long().to(self.device)
        return self.text(tokens)

    @torch.no_grad()
    def end_points(self, noise, context, pooled, steps, guidance):
        """Guided DDIM from pure noise."""
        self.gate.fill_(0)
        times = torch.linspace(999, 0, steps + 1).round().long().tolist()
        x, n = noise, len(noise)
        both = (torch.cat([torch.zeros_like(context), context]), torch.cat([torch.zeros_like(pooled), pooled]))
        for t, t_next in zip(times, times[1:]):
            ts = torch.full((2 * n,), t, device=self.device)
            x0, eps = self.predict(torch.cat([x, x]), ts, *both)
            x0, eps = (u + guidance * (c - u) for u, c in (x0.chunk(2), eps.chunk(2)))
            x = x0 if t_next == 0 else self.acp[t_next].sqrt() * x0 + (1 - self.acp[t_next]).sqrt() * eps
        self.gate.fill_(1)
        return x

    def loss(self, noise, target, t, context, pooled):
        fresh = torch.where(column(t == LCM_STEPS[0]), noise, torch.randn_like(noise))
        a, s = column(self.acp[t].sqrt()), column((1 - self.acp[t]).sqrt())
        x = torch.where(column(t == LCM_STEPS[0]), noise, a * target + s * fresh)
        return huber(self.predict(x, t, context, pooled)[0], target)


def draw_prompts(records, weights, n, rng):
    colours = [c for c in captions.BACKGROUNDS if c != "white"]
    return [captions.caption(r, rng, rng.choice(colours) if rng.random() < 0.2 else "white")
            for r in rng.choices(records, weights, k=n)]


@torch.no_grad()
def probe_loss(distiller, records, args, n):
    """Loss on fixed prompts and noise, mean over the four timesteps, with the adapter and without it."""
    g = torch.Generator().manual_seed(77)
    noise = torch.randn(n, 4, 32, 32, generator=g).to(distiller.device)
    names = [r.name for r in random.Random(77).sample([r for r in records if not r.variant], n)]
    context, pooled = distiller.encode(names)
    target = distiller.end_points(noise, context, pooled, args.teacher_steps, args.guidance)
    out = {}
    for label, gate in (("base", 0), ("lora", 1)):
        torch.manual_seed(78)
        losses = []
        for step in LCM_STEPS:
            distiller.gate.fill_(gate)
            t = torch.full((n,), step, device=distiller.device)
            losses.append(round(distiller.loss(noise, target, t, context, pooled).item(), 5))
        out[label] = losses
    distiller.gate.fill_(1)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--captions", required=True)
    ap.add_argument("--model", required=True, help="trained model folder")
    ap.add_argument("--state", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--total", type=float, default=300)
    ap.add_argument("--slice", type=float, default=300)
    ap.add_argument("--deadline", type=float, default=540, help="the loop ends this many seconds after the start")
    ap.add_argument("--batch", type=int, default=256)
    ap.add_argument("--lr", type=float, default=3e-4)
    ap.add_argument("--teacher-steps", type=int, default=4)
    ap.add_argument("--guidance", type=float, default=1.5)
    ap.add_argument("--max-steps", type=int, default=10**9)
    ap.add_argument("--probe", type=int, default=64)
    ap.add_argument("--device", default="cuda")
    args = ap.parse_args()
    device, state_dir = args.device, pathlib.Path(args.state)
    state_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(4)
    step, clock = 0, slices.Clock(args.total, args.slice, args.deadline)
    records = [r for r in captions.load_records(args.captions) if not r.held_out]
    weights = [latents.VARIANT_WEIGHT if r.variant else 1.0 for r in records]
    distiller = Distiller(args.model, device)
    params = distiller.params()
    print(f"{len(distiller.layers)} layers, {sum(p.numel() for p in params)} LoRA parameters", flush=True)
    opt = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0)
    ema = slices.Ema(params, 0.99)
    saved = slices.newest(state_dir / "lcm_state.pt")
    if saved:
        for p, value in zip(params, saved["params"]):
            p.data.copy_(value)
        opt.load_state_dict(saved["opt"])
        ema.shadow = [t.to(device) for t in saved["ema"]]
        step, clock.done_before = saved["step"], saved["seconds"]
    rng = random.Random(40 + step)
    torch.manual_seed(40 + step)
    clock.begin()
    first = step
    while not clock.slice_over() and step - first < args.max_steps:
        for group in opt.param_groups:
            group["lr"] = slices.learning_rate(args.lr, step, 10, clock.progress())
        context, pooled = distiller.encode(draw_prompts(records, weights, args.batch, rng))
        noise = torch.randn(args.batch, 4, 32, 32, device=device)
        target = distiller.end_points(noise, context, pooled, args.teacher_steps, args.guidance)
        mean = 0.0
        for _ in range(2):
            t = torch.tensor(LCM_STEPS, device=device)[torch.randint(0, 4, (args.batch,), device=device)]
            loss = distiller.loss(noise, target, t, context, pooled)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            opt.step()
            step += 1
            ema.update(step)
            mean += loss.item() / 2
        row = {"step": step, "seconds": round(clock.done(), 1), "loss": round(mean, 5)}
        slices.append_log(state_dir / "lcm_log.jsonl", row)
        if step % 10 == 0:
            print(row, flush=True)
    seconds = clock.done()
    torch.save({"params": [p.detach() for p in params], "opt": opt.state_dict(), "ema": ema.shadow, "step": step,
                "seconds": seconds}, state_dir / "lcm_state.pt")
    ema.swap()
    safetensors.torch.save_file(kohya_state(distiller.layers), args.out, metadata={"format": "pt"})
    report = {"step": step, "seconds": round(seconds, 1), "batch": args.batch,
              "bytes": pathlib.Path(args.out).stat().st_size, "probe": probe_loss(distiller, records, args, args.probe)}
    (state_dir / "lcm_report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
