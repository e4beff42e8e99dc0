"""What scripts/amx_bench.sh measured, in one page: times and their ratio, memory, where the time goes, kernels.

Command: python3 bench/cpu_summary.py RESULTS     (exit 1 when a bar is missed or a run is missing)
"""

import glob
import json
import os
import statistics
import sys

MIB = 2**20
MAX_INT8_MS = 1600
MIN_SPEED_UP = 1.6
MAX_STATIC_MIB = 2575
MAX_DYNAMIC_MIB = 60
MIXDQ = {"fp16": (4998, 240.88), "int8": (2575, 55.77)}  # SDXL-Turbo's UNet, MixDQ's kernels


def lines(path):
    if not os.path.exists(path):
        return []
    return [json.loads(line) for line in open(path) if line.strip()]


def runs(folder, side):
    reports = (lines(path) for path in sorted(glob.glob(os.path.join(folder, f"{side}.[12].json"))))
    return [report[0] for report in reports if report]


def median(reports, *keys):
    values = []
    for report in reports:
        for key in keys:
            report = report[key]
        values.append(report)
    return statistics.median(values)


def times(sides):
    names = list(sides["int8"][0]["modules"])
    rows = [(name, *(median(sides[side], "modules", name, "median") for side in sides)) for name in names]
    rows.append(("whole image", *(median(sides[side], "total", "median") for side in sides)))
    print(f"{'ms, median':<28}" + "".join(f"{side:>12}" for side in sides) + f"{'ratio':>8}")
    for name, *values in rows:
        print(f"{name:<28}" + "".join(f"{v:>12.1f}" for v in values) + f"{values[0] / max(values[-1], 1e-9):>8.2f}")
    return rows[-1][1:]


def unet_memory(image):
    unet = next(one for one in image["component_memory"] if one["component"] == "unet")
    return unet["static_bytes"] / MIB, unet["dynamic_bytes"] / MIB


def memory(images):
    print(f"\n{'memory, MiB':<28}{'static':>12}{'dynamic':>12}{'peak':>12}")
    rows = [(f"UNet, {side}", *unet_memory(image)) for side, image in images.items()]
    for side, image in images.items():
        m = image["memory"]
        rows.append((f"pipeline, {side}", m["static_bytes"] / MIB, m["dynamic_bytes"] / MIB))
    rows += [(f"UNet, MixDQ {name}", *values) for name, values in MIXDQ.items()]
    for name, static, dynamic in rows:
        print(f"{name:<28}{static:>12.2f}{dynamic:>12.2f}{static + dynamic:>12.2f}")
    return unet_memory(images["int8"])


def profile(folder, side):
    ops = [line for line in lines(os.path.join(folder, f"{side}.profile.json")) if line.get("workload") == "op"]
    if ops:
        print(f"\n{side}, profiled: {'ms':>10}{'calls':>8}{'G(FL)OP/s':>12}")
    for op in ops[:16]:
        print(f"  {op['kernel']:<32}{op['total_ms']:>10.1f}{op['calls']:>8}{op['gflop_per_second']:>12.0f}")


def main():
    folder = sys.argv[1]
    plain = "bf16" if runs(folder, "bf16") else "fp32"
    sides = {side: runs(folder, side) for side in (plain, "int8")}
    images = {side: lines(os.path.join(folder, f"{side}.image.json")) for side in sides}
    missing = [side for side in sides if not sides[side] or not images[side]]
    if missing:
        print("a run is missing: " + ", ".join(missing))
        return 1
    before, after = times(sides)
    static, dynamic = memory({side: rows[0] for side, rows in images.items()})
    for side in sides:
        profile(folder, side)
    bars = [
        (f"int8 image <= {MAX_INT8_MS} ms", after, after <= MAX_INT8_MS),
        (f"int8 >= {MIN_SPEED_UP} x {plain}", before / after, before / after >= MIN_SPEED_UP),
        (f"UNet static <= {MAX_STATIC_MIB} MiB", static, static <= MAX_STATIC_MIB),
        (f"UNet dynamic <= {MAX_DYNAMIC_MIB} MiB", dynamic, dynamic <= MAX_DYNAMIC_MIB),
    ]
    print()
    for name, value, met in bars:
        print(f"{name:<28}{value:>12.2f}  {'met' if met else 'MISSED'}")
    return 0 if all(met for *_, met in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
