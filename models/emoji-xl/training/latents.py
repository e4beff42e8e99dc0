"""The table of latents and tokenised captions that the UNet is trained on.

Every picture is encoded on all named backgrounds, recoloured (where that makes sense), enlarged and
cropped, and reduced to a lower resolution. The last two carry matching SDXL size and crop ids.
"""

import pathlib
import random
import time

import torch

import captions
import images
import model

WHITE, BACKGROUND, TINT, ZOOM, LOWRES = range(5)
SHARE = {WHITE: 0.62, BACKGROUND: 0.20, TINT: 0.08, ZOOM: 0.06, LOWRES: 0.04}
CAPTIONS_PER_LATENT = {WHITE: 24, BACKGROUND: 3, TINT: 3, ZOOM: 4, LOWRES: 4}
VARIANT_WEIGHT = 0.4


class Table:
    """Rows of (latent, time ids, captions) as tensors on one device."""

    def __init__(self, data):
        self.__dict__.update(data)

    def to(self, device):
        return Table({k: v.to(device) if torch.is_tensor(v) else v for k, v in self.__dict__.items()})

    def sample_rows(self, weights, n):
        return torch.multinomial(weights, n, replacement=True)

    def sample_tokens(self, rows):
        pick = (torch.rand(len(rows), device=rows.device) * self.caption_count[rows]).long()
        return self.tokens[self.caption_start[rows] + pick].long()


def tokenize(tokenizer, texts):
    out = []
    for i in range(0, len(texts), 20000):
        ids = tokenizer(texts[i:i + 20000], padding="max_length", max_length=77, truncation=True,
                        return_tensors="pt").input_ids
        out.append(ids.short())
    return torch.cat(out)


def second_tokens(tokens):
    """Ids of tokenizer_2, which pads with 0, from those of tokenizer 1, which pads with EOS."""
    seen = (tokens == model.EOS_ID).cumsum(1)
    return torch.where(seen > 1, torch.zeros_like(tokens), tokens)


def _encode(vae, x):
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
        return vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mode().half()


@torch.no_grad()
def build(vae, rgba, records, tokenizer, device, limit=None, batch=128, seed=7):
    """Encodes all versions of `records` (the first `limit` ones) and tokenises their captions."""
    rng = random.Random(seed)
    began = time.monotonic()
    records = records[:limit] if limit else records
    rows = {k: [] for k in ("latent", "time_ids", "record", "kind")}
    texts, counts = [], []

    def add(kind, part, x, ids, background="white", tint=None):
        rows["latent"].append(_encode(vae, x))
        rows["time_ids"] += [ids] * len(part)
        rows["record"] += [r.index for r in part]
        rows["kind"] += [kind] * len(part)
        for r in part:
            n = CAPTIONS_PER_LATENT[kind]
            texts.extend(captions.caption(r, rng, background, tint) for _ in range(n))
            counts.append(n)

    full = (images.SIZE, images.SIZE, 0, 0, images.SIZE, images.SIZE)
    for start in range(0, len(records), batch):
        part = records[start:start + batch]
        colour, alpha = images.split_alpha(rgba[start:start + len(part)].to(device))
        put = lambda c, name, a=alpha: images.composite(
            c, a, images.colour_tensor([captions.BACKGROUNDS[name]] * len(c), device))
        white = put(colour, "white")
        for name in captions.BACKGROUNDS:
            add(WHITE if name == "white" else BACKGROUND, part, white if name == "white" else put(colour, name),
                full, name)
        chosen = [i for i, r in enumerate(part) if captions.is_tintable(r)]
        for name in captions.TINTS if chosen else ():
            ramp = images.tint_ramp(name, device).expand(len(chosen), 3, 3)
            add(TINT, [part[i] for i in chosen],
                put(images.tint(colour[chosen], ramp), "white", alpha[chosen]), full, "white", name)
        for _ in range(2):
            scale = rng.uniform(1.1, 1.6)
            room = int(images.SIZE * scale) - images.SIZE
            top, left = rng.randint(0, room), rng.randint(0, room)
            add(ZOOM, part, images.zoom_crop(white, scale, top, left),
                (images.SIZE, images.SIZE, top, left, images.SIZE, images.SIZE))
        size = rng.choice((48, 64, 96, 128))
        add(LOWRES, part, images.low_resolution(white, size), (size, size, 0, 0, images.SIZE, images.SIZE))
    count = torch.tensor(counts)
    latent = torch.cat(rows["latent"])
    kind = torch.tensor(rows["kind"])
    own = torch.tensor([not r.held_out for r in records])[torch.tensor(rows["record"])]
    scaling = 1 / latent[(own & (kind <= BACKGROUND)).to(device)].float().std().item()
    print(f"encoded {len(latent)} latents in {time.monotonic() - began:.0f} s, scaling {scaling:.4f}", flush=True)
    data = {"latent": (latent.float() * scaling).half(), "time_ids": torch.tensor(rows["time_ids"]).short(),
            "record": torch.tensor(rows["record"]), "kind": kind, "caption_count": count,
            "caption_start": count.cumsum(0) - count, "tokens": tokenize(tokenizer, texts), "scaling": scaling}
    print(f"tokenised {len(texts)} captions, {time.monotonic() - began:.0f} s", flush=True)
    return Table(data)


def load_or_build(path, *args, **kwargs):
    if pathlib.Path(path).exists():
        return Table(torch.load(path, map_location="cpu", weights_only=True))
    table = build(*args, **kwargs)
    torch.save({k: v.cpu() if torch.is_tensor(v) else v for k, v in table.__dict__.items()}, path)
    return table


def row_weights(table, records, held_out=False):
    """Sampling weight of each row: share of its kind, split over the rows of that kind per record."""
    own = torch.tensor([r.held_out == held_out for r in records])[table.record.cpu()]
    base = torch.tensor([VARIANT_WEIGHT if r.variant else 1.0 for r in records])[table.record.cpu()]
    kind = table.kind.cpu()
    per = {WHITE: 1, BACKGROUND: len(captions.BACKGROUNDS) - 1, TINT: len(captions.TINTS), ZOOM: 2, LOWRES: 1}
    share = torch.tensor([SHARE[k] / per[k] for k in range(5)])[kind]
    return base * share * own
