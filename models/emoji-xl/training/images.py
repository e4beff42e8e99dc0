"""Loading, compositing, recolouring and re-framing of the RGBA training pictures, as GPU tensors."""

import concurrent.futures
import pathlib
import random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import captions

SIZE = 256


def _read(path):
    """RGBA array; the few pictures of another size are scaled to fit and centred."""
    with Image.open(path) as im:
        im = im.convert("RGBA")
    if im.size != (SIZE, SIZE):
        scale = SIZE / max(im.size)
        fitted = im.resize((round(im.width * scale), round(im.height * scale)), Image.Resampling.LANCZOS)
        im = Image.new("RGBA", (SIZE, SIZE), (255, 255, 255, 0))
        im.paste(fitted, ((SIZE - fitted.width) // 2, (SIZE - fitted.height) // 2))
    return np.asarray(im)


def load_rgba(image_dir, records, cache=None):
    """All pictures as one uint8 tensor [n,256,256,4]; `cache` names an .npy file to keep them in."""
    if cache and pathlib.Path(cache).exists():
        return torch.from_numpy(np.load(cache))
    paths = [pathlib.Path(image_dir) / r.file for r in records]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        stack = np.stack(list(pool.map(_read, paths)))
    assert stack.shape[1:] == (SIZE, SIZE, 4), stack.shape
    if cache:
        np.save(cache, stack)
    return torch.from_numpy(stack)


def split_alpha(rgba):
    """uint8 [n,H,W,4] -> colour in [-1,1] [n,3,H,W], alpha in [0,1] [n,1,H,W]."""
    x = rgba.permute(0, 3, 1, 2).float() / 255
    return x[:, :3] * 2 - 1, x[:, 3:]


def colour_tensor(rgb, device):
    return torch.tensor(rgb, dtype=torch.float32, device=device) / 127.5 - 1


def composite(colour, alpha, background):
    """`background`: [n,3] in [-1,1]."""
    return colour * alpha + background[:, :, None, None] * (1 - alpha)


def tint(colour, ramp):
    """Recolours by luminance along a (shadow, middle, highlight) ramp [n,3,3] in [-1,1]."""
    weights = colour.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma = ((colour + 1) / 2 * weights).sum(1, keepdim=True).clamp(0, 1)
    low, mid, high = (ramp[:, i, :, None, None] for i in range(3))
    return torch.where(luma < 0.5, low + (mid - low) * luma * 2, mid + (high - mid) * (luma * 2 - 1))


def tint_ramp(name, device):
    return torch.stack([colour_tensor(c, device) for c in captions.TINTS[name]])


def zoom_crop(images, scale, top, left):
    """Enlarges [n,3,256,256] by `scale` and cuts the 256x256 window at (top, left)."""
    big = F.interpolate(images, scale_factor=scale, mode="bicubic", align_corners=False, antialias=False)
    return big[:, :, top:top + SIZE, left:left + SIZE].clamp(-1, 1)


def low_resolution(images, size):
    small = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    return F.interpolate(small, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(-1, 1)


def random_backgrounds(n, device, rng):
    """Mostly white, often a named colour, sometimes any colour."""
    palette = [c for name, c in captions.BACKGROUNDS.items() if name != "white"]
    rows = []
    for _ in range(n):
        kind = rng.random()
        if kind < 0.5:
            rows.append((255, 255, 255))
        elif kind < 0.8:
            rows.append(rng.choice(palette))
        else:
            rows.append(tuple(rng.randrange(256) for _ in range(3)))
    return colour_tensor(rows, device)


def random_ramps(n, device, rng):
    names = list(captions.TINTS)
    table = {name: [[v / 127.5 - 1 for v in c] for c in captions.TINTS[name]] for name in names}
    return torch.tensor([table[rng.choice(names)] for _ in range(n)], device=device)


def to_pil(x):
    """[3,H,W] in [-1,1] -> PIL image."""
    array = ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array)


def grid(pictures, columns, gap=4):
    """PIL pictures of equal size in rows."""
    w, h = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (w + gap) - gap, rows * (h + gap) - gap), (255, 255, 255))
    for i, p in enumerate(pictures):
        sheet.paste(p, ((i % columns) * (w + gap), (i // columns) * (h + gap)))
    return sheet


def seeded(seed):
    return random.Random(seed)
