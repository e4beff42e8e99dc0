"""Distils emoji-xl into an LCM-LoRA (kohya keys) without training pictures, one slice of time per call.

  python distill_lcm.py --captions captions.tsv --model MODEL_DIR --state DIR --total 150 --out lora.safetensors

First the guided teacher (20 Euler steps, guidance 5) draws end points for random captions and noise.
Then the student, without guidance, runs the four steps of the LCM scheduler from the same noise,
adding noise again between the steps as that scheduler does, and must predict the end point at every
step; gradients do not cross steps. The student is the teacher with low-rank additions to its weights.
"""

import argparse
import copy
import json
import pathlib
import random
import time

import safetensors.torch
import torch
from diffusers import StableDiffusionXLPipeline

import captions
import latents
import slices
import train_unet

LINEAR_NAMES = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
                "time_emb_proj")
CONV_NAMES = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")
LCM_STEPS = (999, 759, 499, 259)  # diffusers' LCMScheduler, 4 steps
TEACHER_STEPS = tuple(range(951, 0, -50))  # the shipped Euler scheduler, 20 steps


def column(values):
    return values.view(-1, 1, 1, 1)


def huber(a, b, c=0.03):
    return ((a - b).square() + c * c).sqrt().mean() - c


class LoraSet:
    """Low-rank additions (alpha = rank, so scale 1) to the linear and convolution weights of a UNet."""

    def __init__(self, unet, rank):
        self.base, self.pairs = {}, {}
        g = torch.Generator().manual_seed(4)
        for path, module in unet.named_modules():
            ends = LINEAR_NAMES if isinstance(module, torch.nn.Linear) else CONV_NAMES
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and path.endswith(ends):
                w = module.weight.detach().float()
                down = torch.randn(rank, w[0].numel(), generator=g) / rank
                self.base[path] = w
                self.pairs[path] = (down.to(w.device).requires_grad_(),
                                    torch.zeros(len(w), rank, device=w.device, requires_grad=True))

    @torch.no_grad()
    def load(self, path):
        """Starts from a file that kohya_state() made."""
        state = safetensors.torch.load_file(path)
        for layer, pair in self.pairs.items():
            for p, kind in zip(pair, ("down", "up")):
                p.copy_(state[f"lora_unet_{layer.replace('.', '_')}.lora_{kind}.weight"].float().view_as(p))

    def params(self):
        return [p for pair in self.pairs.values() for p in pair]

    def merged(self, dtype):
        """{parameter name: base weight + up x down}."""
        out = {}
        for path, (down, up) in self.pairs.items():
            w = self.base[path]
            out[f"{path}.weight"] = (w + (up @ down).view_as(w)).to(dtype)
        return out

    def kohya_state(self):
        state = {}
        for path, (down, up) in self.pairs.items():
            key, w = "lora_unet_" + path.replace(".", "_"), self.base[path]
            down = down.detach().view(len(down), *w.shape[1:])
            up = up.detach().view(*up.shape, *[1] * (w.dim() - 2))
            state[f"{key}.lora_down.weight"] = down.half().cpu().contiguous()
            state[f"{key}.lora_up.weight"] = up.half().cpu().contiguous()
            state[f"{key}.alpha"] = torch.tensor(float(len(down)), dtype=torch.float16)
        return state


class Predictor:
    """Clean latents and noise as a UNet predicts them, with some of its weights replaced."""

    def __init__(self, unet, acp):
        self.unet, self.acp = unet, acp
        self.dtype = unet.conv_in.weight.dtype

    def __call__(self, x, t, context, pooled, weights=None):
        ids = x.new_tensor(()).new_full((len(x), 6), 256)
        ids[:, 2:4] = 0
        inputs = (x.to(self.dtype).contiguous(memory_format=torch.channels_last), t)
        kwargs = {"encoder_hidden_states": context.to(self.dtype), "return_dict": False,
                  "added_cond_kwargs": {"text_embeds": pooled.to(self.dtype), "time_ids": ids}}
        v = torch.func.functional_call(self.unet, weights or {}, inputs, kwargs)[0].float()
        a, s = column(self.acp[t].sqrt()), column((1 - self.acp[t]).sqrt())
        return a * x - s * v, a * v + s * x


@torch.no_grad()
def end_points(teacher, noise, context, pooled, guidance):
    """Guided DDIM from pure noise, which is Euler in the variance-exploding form."""
    x, n, acp = noise, len(noise), teacher.acp
    both = (torch.cat([torch.zeros_like(context), context]), torch.cat([torch.zeros_like(pooled), pooled]))
    for i, t in enumerate(TEACHER_STEPS):
        x0, eps = teacher(torch.cat([x, x]), torch.full((2 * n,), t, device=x.device), *both)
        x0, eps = (u + guidance * (c - u) for u, c in (x0.chunk(2), eps.chunk(2)))
        if i + 1 == len(TEACHER_STEPS):
            return x0
        following = acp[TEACHER_STEPS[i + 1]]
        x = following.sqrt() * x0 + (1 - following).sqrt() * eps


def rollout(student, noise, context, pooled, weights):
    """Predictions of the clean latents at the four LCM steps; gradients stay inside a step."""
    x, out = noise, []
    for i, step in enumerate(LCM_STEPS):
        t = torch.full((len(noise),), step, device=noise.device)
        out.append(student(x, t, context, pooled, weights)[0])
        if i + 1 < len(LCM_STEPS):
            acp = student.acp[LCM_STEPS[i + 1]]
            x = acp.sqrt() * out[-1].detach() + (1 - acp).sqrt() * torch.randn_like(noise)
    return out


class Samples:
    """Teacher's end points with the noise and the text that they came from."""

    FIELDS = ("noise", "target", "context", "pooled")

    def __init__(self, parts):
        for field, tensors in zip(self.FIELDS, zip(*parts)):
            setattr(self, field, torch.cat(tensors))

    def __len__(self):
        return len(self.noise)

    def pick(self, rows):
        return {field: getattr(self, field)[rows] for field in self.FIELDS}


def draw_samples(teacher, encode, prompts, batch, guidance, seconds, max_batches):
    """Samples for as many batches of `prompts(batch)` as fit into `seconds`."""
    parts, began = [], time.monotonic()
    while time.monotonic() - began < seconds and len(parts) < max_batches:
        context, pooled = encode(prompts(batch))
        noise = torch.randn(batch, 4, 32, 32, device=context.device)
        target = end_points(teacher, noise, context, pooled, guidance)
        parts.append((noise, target, context.half(), pooled.half()))
        if context.is_cuda:
            torch.cuda.synchronize()
    return Samples(parts)


class Trainer:
    """One optimizer step per call; on CUDA a captured graph, because the network is small."""

    def __init__(self, student, lora, batch, samples, lr, eager):
        self.student, self.lora, self.eager = student, lora, eager
        self.cuda = samples.noise.is_cuda
        self.lr = torch.tensor(lr, device=samples.noise.device) if self.cuda else lr
        self.opt = torch.optim.AdamW(lora.params(), lr=self.lr, betas=(0.9, 0.99), weight_decay=0.0,
                                     capturable=self.cuda)
        self.ema = slices.Ema(lora.params(), 0.995)
        self.inputs = {k: v.clone() for k, v in samples.pick(torch.arange(batch) % len(samples)).items()}
        self.losses = torch.zeros(len(LCM_STEPS), device=samples.noise.device)
        self.graph = None

    def capture(self):
        """Records the step. The warm-up runs that this needs leave parameters and moments as they were."""
        if not self.cuda or self.eager:
            return
        before = [p.detach().clone() for p in self.lora.params()]
        state = copy.deepcopy(self.opt.state_dict()) if self.opt.state else None
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.opt.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._step()
        self.graph = graph
        with torch.no_grad():
            for p, value in zip(self.lora.params(), before):
                p.copy_(value)
                slots, old = self.opt.state[p], None if state is None else state["state"][self._index(p)]
                for name, slot in slots.items():
                    slot.copy_(torch.zeros_like(slot) if old is None else old[name])

    def _index(self, p):
        return next(i for i, q in enumerate(self.lora.params()) if q is p)

    def _step(self):
        self.opt.zero_grad(set_to_none=True)
        weights = self.lora.merged(self.student.dtype)
        text = (self.inputs["context"], self.inputs["pooled"])
        losses = torch.stack([huber(x0, self.inputs["target"])
                              for x0 in rollout(self.student, self.inputs["noise"], *text, weights)])
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(self.lora.params(), 1.0)
        self.opt.step()
        self.losses.copy_(losses.detach())

    def step(self, batch, lr, step):
        for k, v in batch.items():
            self.inputs[k].copy_(v)
        if self.cuda:
            self.lr.fill_(lr)
        else:
            self.opt.param_groups[0]["lr"] = lr
        self.graph.replay() if self.graph else self._step()
        self.ema.update(step)


def draw_prompts(records, weights, n, rng):
    colours = [c for c in captions.BACKGROUNDS if c != "white"]
    return [captions.caption(r, rng, rng.choice(colours) if rng.random() < 0.2 else "white")
            for r in rng.choices(records, weights, k=n)]


@torch.no_grad()
def probe(student, lora, samples):
    """Root mean square distance to the end points after each LCM step, without and with the addition."""
    out = {}
    for label, weights in (("base", None), ("lora", lora.merged(student.dtype))):
        torch.manual_seed(78)
        found = rollout(student, samples.noise, samples.context, samples.pooled, weights)
        out[label] = [round((x0 - samples.target).square().mean().sqrt().item(), 5) for x0 in found]
    return out


def train(trainer, samples, clock, step, peak, max_steps, log=None):
    """Runs until the clock ends the slice; returns the step count."""
    batch, first = len(trainer.inputs["noise"]), step
    trainer.capture()
    clock.begin()
    while not clock.slice_over() and step - first < max_steps:
        rows = torch.randint(0, len(samples), (batch,), device=samples.noise.device)
        trainer.step(samples.pick(rows), slices.learning_rate(peak, step, 50, clock.progress()), step)
        step += 1
        if step % 50 == 0:
            row = {"step": step, "seconds": round(clock.done(), 1),
                   "loss": [round(v, 5) for v in trainer.losses.tolist()]}
            if log:
                slices.append_log(log, row)
                print(row, flush=True)
    return step


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--captions", required=True)
    ap.add_argument("--model", required=True, help="trained model folder")
    ap.add_argument("--state", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--init", default=None, help="LoRA of an earlier run to start from")
    ap.add_argument("--seed", type=int, default=40)
    ap.add_argument("--total", type=float, default=150, help="seconds of training in all, without the teacher's")
    ap.add_argument("--slice", type=float, default=150)
    ap.add_argument("--deadline", type=float, default=540, help="the loop ends this many seconds after the start")
    ap.add_argument("--draw", type=float, default=60, help="seconds in which the teacher draws end points")
    ap.add_argument("--sweep", type=float, default=15, help="seconds of trial for each rate, if several are given")
    ap.add_argument("--lr", type=float, nargs="+", default=[1e-3])
    ap.add_argument("--rank", type=int, default=8)
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--teacher-batch", type=int, default=384)
    ap.add_argument("--guidance", type=float, default=5.0)
    ap.add_argument("--max-steps", type=int, default=10**9)
    ap.add_argument("--probe", type=int, default=64)
    ap.add_argument("--eager", action="store_true", help="no captured graph")
    ap.add_argument("--device", default="cuda")
    args = ap.parse_args()
    began, device, state_dir = time.monotonic(), args.device, pathlib.Path(args.state)
    state_dir.mkdir(parents=True, exist_ok=True)
    records = [r for r in captions.load_records(args.captions) if not r.held_out]
    weights = [latents.VARIANT_WEIGHT if r.variant else 1.0 for r in records]
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    unet = pipe.unet.requires_grad_(False).to(device, memory_format=torch.channels_last)
    text = train_unet.Text((pipe.text_encoder, pipe.text_encoder_2)).to(device).requires_grad_(False)
    acp = train_unet.alphas_cumprod(device)
    half, short = (torch.float16, torch.bfloat16) if device == "cuda" else (torch.float32, torch.float32)
    teacher = Predictor(copy.deepcopy(unet).to(half), acp)
    student = Predictor(copy.deepcopy(unet).to(short), acp)

    def encode(prompts):
        with torch.no_grad():
            return text(latents.tokenize(pipe.tokenizer, prompts).long().to(device))

    saved = slices.newest(state_dir / "lcm_state.pt")
    step = saved["step"] if saved else 0
    torch.manual_seed(77)
    names = [r.name for r in random.Random(77).sample([r for r in records if not r.variant], args.probe)]
    fixed = draw_samples(teacher, encode, lambda n: names[:n], args.probe, args.guidance, 1e9, 1)
    torch.manual_seed(args.seed + step)
    rng = random.Random(args.seed + step)
    samples = draw_samples(teacher, encode, lambda n: draw_prompts(records, weights, n, rng),
                           args.teacher_batch, args.guidance, args.draw, args.max_steps)
    print(f"{len(samples)} end points, {time.monotonic() - began:.1f} s since the start", flush=True)

    rates = {}
    for lr in args.lr if len(args.lr) > 1 and not saved else ():
        lora = LoraSet(unet, args.rank)
        trainer = Trainer(student, lora, args.batch, samples, lr, args.eager)
        steps = train(trainer, samples, slices.Clock(args.sweep, args.sweep), 0, lr, args.max_steps)
        trainer.ema.swap()
        rates[lr] = probe(student, lora, fixed)["lora"]
        print(f"rate {lr}: {steps} steps, {rates[lr]}", flush=True)
    lr = min(rates, key=lambda k: rates[k][-1]) if rates else args.lr[0]

    lora = LoraSet(unet, args.rank)
    if args.init:
        lora.load(args.init)
    trainer = Trainer(student, lora, args.batch, samples, lr, args.eager)
    clock = slices.Clock(args.total, args.slice, args.deadline - (time.monotonic() - began))
    if saved:
        lr = saved["lr"]
        for p, value in zip(lora.params(), saved["params"]):
            p.data.copy_(value)
        trainer.opt.load_state_dict(saved["opt"])
        trainer.opt.param_groups[0]["lr"] = trainer.lr
        trainer.ema.shadow = [t.to(device) for t in saved["ema"]]
        clock.done_before = saved["seconds"]
    print(f"{len(lora.pairs)} layers, {sum(p.numel() for p in lora.params())} LoRA parameters, rate {lr}", flush=True)
    step = train(trainer, samples, clock, step, lr, args.max_steps, state_dir / "lcm_log.jsonl")
    seconds = clock.done()
    torch.save({"params": [p.detach() for p in lora.params()], "opt": trainer.opt.state_dict(),
                "ema": trainer.ema.shadow, "step": step, "seconds": seconds, "lr": lr}, state_dir / "lcm_state.pt")
    trainer.ema.swap()
    safetensors.torch.save_file(lora.kohya_state(), args.out, metadata={"format": "pt"})
    report = {"step": step, "seconds": round(seconds, 1), "batch": args.batch, "rank": args.rank, "lr": lr,
              "rates": rates, "end_points": len(samples), "guidance": args.guidance, "init": bool(args.init),
              "bytes": pathlib.Path(args.out).stat().st_size, "probe": probe(student, lora, fixed)}
    (state_dir / "lcm_report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
