"""Draws the loss curves of the training logs: python plot_logs.py --logs logs --out curves.png"""

import argparse
import json
import math
import pathlib

from PIL import Image, ImageDraw

SIZE, PAD = (460, 260), 44


def read(path, key):
    rows = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    return [(r["seconds"], r[key]) for r in rows if r["seconds"] > 0]


def panel(points, title):
    """Log-scale curve over seconds of training."""
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    logs = [math.log10(v) for _, v in points]
    low, high = math.floor(min(logs) * 4) / 4, math.ceil(max(logs) * 4) / 4
    last = max(s for s, _ in points)
    place = lambda s, v: (PAD + (SIZE[0] - PAD - 12) * s / last,
                          SIZE[1] - PAD / 2 - (SIZE[1] - PAD - 8) * (math.log10(v) - low) / (high - low))
    mark = low
    while mark <= high + 1e-9:
        y = place(0, 10**mark)[1]
        draw.line([(PAD, y), (SIZE[0] - 12, y)], fill=(225, 225, 225))
        draw.text((4, y - 6), f"{10**mark:.3g}", fill=(80, 80, 80))
        mark += 0.25
    for part in range(5):
        x = place(last * part / 4, 10**low)[0]
        draw.text((min(x - 10, SIZE[0] - 40), SIZE[1] - 18), f"{last * part / 4:.0f} s", fill=(80, 80, 80))
    draw.line([place(s, v) for s, v in points], fill=(40, 100, 200), width=2)
    draw.text((PAD + 40, 2), title, fill=(20, 20, 20))
    return image


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--logs", required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    logs = pathlib.Path(args.logs)
    panels = [panel(read(logs / "vae.jsonl", "rec"), "autoencoder: reconstruction loss"),
              panel(read(logs / "unet.jsonl", "loss"), "UNet and text encoders: v loss (mean of 200 steps)")]
    sheet = Image.new("RGB", (SIZE[0] * len(panels), SIZE[1]), "white")
    for i, p in enumerate(panels):
        sheet.paste(p, (i * SIZE[0], 0))
    sheet.quantize(32).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
