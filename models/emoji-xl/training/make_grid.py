"""Draws docs/images/emoji-xl-grid.png: 24 prompts x {20 steps, LCM 4 steps}, with diffusers.

  python make_grid.py --model MODEL_DIR [--lora LORA] [--device cuda] --out grid.png

Colours are rounded to 64 levels a channel, which halves the file.
"""

import argparse

import torch
from PIL import ImageDraw, ImageFont

import evaluate
import images

PROMPTS = (
    "a red apple", "cat face", "pizza", "rocket", "sunflower", "automobile", "guitar", "crown",
    "ghost", "robot", "unicorn", "octopus", "penguin", "strawberry", "hamburger", "hot beverage",
    "light bulb", "castle", "sailboat", "grinning face", "smiling face with sunglasses", "butterfly",
    "birthday cake on a blue background", "a green turtle emoji",
)


def labelled(picture, text, size):
    tile = images.grid([picture.resize((size, size))], 1)
    strip = tile.resize((size, 14))
    strip.paste((255, 255, 255), (0, 0, size, 14))
    ImageDraw.Draw(strip).text((2, 1), text, fill=(40, 40, 40), font=ImageFont.load_default(9))
    column = tile.resize((size, size + 14))
    column.paste(tile, (0, 0))
    column.paste(strip, (0, size))
    return column


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--model", required=True)
    ap.add_argument("--lora", default=None)
    ap.add_argument("--out", required=True)
    ap.add_argument("--size", type=int, default=104)
    ap.add_argument("--device", default="cpu")
    args = ap.parse_args()
    base = evaluate.load_pipeline(args.model, None, args.device, torch.float32)
    _, full = evaluate.generate(base, list(PROMPTS), 20, 5.0, seed=42, batch=8)
    lcm = evaluate.load_pipeline(args.model, args.lora, args.device, torch.float32)
    evaluate.set_scheduler(lcm, "lcm")
    _, fast = evaluate.generate(lcm, list(PROMPTS), 4, 0.0, seed=42, batch=8)
    tiles = []
    for row in range(0, len(PROMPTS), 8):
        for x, what in ((full, "20 steps"), (fast, "LCM 4 steps")):
            for i in range(row, row + 8):
                text = PROMPTS[i][:22] if what == "20 steps" else what
                tiles.append(labelled(images.to_pil(x[i]), text, args.size))
    sheet = images.grid(tiles, 8).point(lambda v: 255 if v > 251 else (v + 2) // 4 * 4)
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
