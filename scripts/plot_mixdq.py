#!/usr/bin/env python3
"""Draws the measured curve of mixed weight widths, bits against PSNR, as an SVG.

Usage: scripts/plot_mixdq.py [ROWS.jsonl [OUT.svg]]
Of every choice of widths the mean over the prompts that all choices have (1 to 32) is a point, with
the tenth and the ninetieth percentile as a bar; searched choices are joined.
"""
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 200, 30, 48
PROMPTS = 32
BITS = (3.8, 5.2)
DECIBELS = (14, 44)
KINDS = [  # prefix of the row's name, label, colour
    ("searched", "searched", "#1f6feb"),
    ("uniform", "equal widths", "#222222"),
    ("w4a8_first", "4 bits, first layers 8", "#b35900"),
    ("w4a8_last", "4 bits, last layers 8", "#1a7f37"),
    ("w4a8_random", "4 bits, random layers 8", "#8250df"),
]


def x_of(bits):
    return LEFT + (bits - BITS[0]) / (BITS[1] - BITS[0]) * (WIDTH - LEFT - RIGHT)


def y_of(decibels):
    return HEIGHT - BOTTOM - (decibels - DECIBELS[0]) / (DECIBELS[1] - DECIBELS[0]) * (HEIGHT - TOP - BOTTOM)


def text(x, y, content, anchor="middle", size=12, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{extra}>{content}</text>'


def axes():
    parts = []
    for decibels in range(15, DECIBELS[1] + 1, 5):
        y = y_of(decibels)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y + 4, decibels, "end"))
    for bits in (4.0, 4.5, 5.0):
        parts.append(text(x_of(bits), HEIGHT - BOTTOM + 18, bits))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "bits of a weight, mean"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turn = f' transform="rotate(-90 16 {middle:.1f})"'
    parts.append(text(16, middle, "PSNR against fp32, dB", extra=turn))
    return parts


def point(row, colour):
    values = sorted(row["psnr_db_by_prompt"][:PROMPTS])
    x, y = x_of(row["weight_bits_mean"]), y_of(statistics.mean(values))
    low, *_, high = statistics.quantiles(values, n=10, method="inclusive")
    bar = f'<line x1="{x:.1f}" y1="{y_of(low):.1f}" x2="{x:.1f}" y2="{y_of(high):.1f}" stroke="{colour}" opacity="0.4"/>'
    return (x, y), [bar, f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>']


def main():
    rows_file = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "bench/results/quality/mixdq.jsonl"
    out_file = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs/images/mixdq.svg"
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    rows = [row for row in rows if "8points" not in row["precision"]]  # tried and not taken
    parts = axes()
    for index, (prefix, label, colour) in enumerate(KINDS):
        places = []
        for row in rows:
            if row["precision"].startswith(prefix):
                place, shapes = point(row, colour)
                places.append(place)
                parts += shapes
        if prefix == "searched":
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted(places))
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        y = TOP + 20 + 20 * index
        parts.append(f'<circle cx="{WIDTH - RIGHT + 24}" cy="{y - 4}" r="4" fill="{colour}"/>')
        parts.append(text(WIDTH - RIGHT + 34, y, label, "start"))
    body = "\n".join(parts)
    out_file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    main()
