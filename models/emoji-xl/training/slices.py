"""Time-sliced training: a run is `total` seconds of training, done in slices that can be resumed.

The learning rate follows the share of the whole training time that is done, so the number of steps
adapts to the machine. Each slice ends by writing its state; the next one goes on from it.
"""

import json
import math
import pathlib
import time

import torch


class Clock:
    """Training time done; `deadline_seconds` bounds the whole call, start-up and compilation included."""

    def __init__(self, total_seconds, slice_seconds, deadline_seconds=math.inf):
        self.total = total_seconds
        self.slice = slice_seconds
        self.deadline = time.monotonic() + deadline_seconds
        self.done_before = 0.0
        self.start = None

    def begin(self):
        """Starts counting (call it after compilation and warm-up)."""
        self.start = time.monotonic()

    def in_slice(self):
        return 0.0 if self.start is None else time.monotonic() - self.start

    def done(self):
        return self.done_before + self.in_slice()

    def progress(self):
        return min(1.0, self.done() / self.total)

    def slice_over(self):
        return (self.in_slice() >= self.slice or self.done() >= self.total
                or time.monotonic() >= self.deadline)


def learning_rate(peak, step, warmup_steps, progress, floor=0.01):
    """Linear warm-up over steps, then cosine over the share of training time done."""
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    return peak * min(1.0, (step + 1) / warmup_steps) * cosine


class Ema:
    """Exponential moving average of parameters, with a short horizon at the start."""

    def __init__(self, params, decay):
        self.params = list(params)
        self.decay = decay
        self.shadow = [p.detach().clone() for p in self.params]

    @torch.no_grad()
    def update(self, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, self.params, 1 - decay)

    @torch.no_grad()
    def swap(self):
        """Exchanges the averaged and the live values (call twice to restore)."""
        for s, p in zip(self.shadow, self.params):
            live = p.detach().clone()
            p.copy_(s)
            s.copy_(live)


def append_log(path, row):
    with open(path, "a", encoding="utf-8") as f:
        f.write(json.dumps(row) + "\n")


def newest(path):
    return torch.load(path, map_location="cpu", weights_only=True) if pathlib.Path(path).exists() else None
