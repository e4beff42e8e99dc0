"""Writes prompts/calibration.txt (128 lines) and prompts/heldout.txt (64 lines) from the captions.

  python make_prompts.py --captions captions.tsv --out ../prompts

Calibration: captions of 128 training concepts in the wordings of the training. Held out: 24 concepts
that the model never saw, 28 training names that calibration does not use, 12 compositions.
"""

import argparse
import pathlib
import random

import captions
import evaluate


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--captions", required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    rng = random.Random(5)
    base = [r for r in captions.load_records(args.captions) if not r.variant]
    seen = sorted((r for r in base if not r.held_out), key=lambda r: r.name)
    unseen = sorted({r.name for r in base if r.held_out})
    rng.shuffle(seen)
    colours = [c for c in captions.BACKGROUNDS if c != "white"]
    calibration = [captions.caption(r, rng, rng.choice(colours) if rng.random() < 0.25 else "white")
                   for r in seen[:128]]
    held = rng.sample(unseen, 24) + [r.name for r in seen[128:156]] + list(evaluate.COMPOSITIONS)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "calibration.txt").write_text("".join(f"{p}\n" for p in calibration), encoding="utf-8")
    (out / "heldout.txt").write_text("".join(f"{p}\n" for p in held), encoding="utf-8")


if __name__ == "__main__":
    main()
