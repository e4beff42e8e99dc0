"""Rows of GPU results, and how far two pictures are apart.

Command: python3 bench/gpu_rows.py rows BENCH.json DEVICE.txt COMMAND   (JSON lines of `halftone bench e2e`)
         python3 bench/gpu_rows.py psnr REFERENCE.png PICTURE.png ...   (fails below 40 dB; needs numpy and PIL)
Prints one JSON line a workload: workload, precision, median_ms, p10_ms, p90_ms, n, device, commit, command.
"""

import json
import sys

MIN_PSNR = 40.0


def workloads(report):
    """Names of what a whole run holds, each with its spread and how many runs of it one image takes."""
    request = report["request"]
    size, steps = request["width"], request["steps"]
    rows = request["batch_size"] * (2 if request["cfg"] else 1)
    turbo = size == 512 and steps == 1
    modules = report["modules"]
    step = f"turbo_unet_512_b{rows}" if turbo else f"sdxl_unet_step_{size}_b{rows}"
    image = f"turbo_image_512_s{steps}" if turbo else f"sdxl_image_{size}_s{steps}"
    if request["batch_size"] > 1:
        image += f"_batch{request['batch_size']}"
    yield step, modules["unetxl"], steps, request["precision"]
    yield f"vae_decode_{size}", modules["vae"], request["batch_size"], request["vae_precision"]
    text = {key: sum(modules[name][key] for name in ("clip", "clip2")) for key in ("median", "p10", "p90")}
    yield "text_encoders_b1", text, 1, request["precision"]
    yield image, report["total"], 1, request["precision"]


def print_rows(path, device_file, command):
    device = open(device_file).read().splitlines()[-1].split(",")[0]
    for line in open(path):
        report = json.loads(line)
        if report.get("workload") != "e2e":
            continue
        for name, spread, count, precision in workloads(report):
            row = {"workload": name, "precision": precision, "n": report["n"]}
            for key in ("median", "p10", "p90"):
                row[f"{key}_ms"] = round(spread[key] / count, 4)
            row |= {"device": device, "commit": report["commit"], "command": command}
            if name.endswith(f"_s{report['request']['steps']}"):
                row |= {"memory": report["memory"], "load_and_build_ms": round(report["warmup_build_ms"])}
            print(json.dumps(row))


def psnr(reference, pictures):
    import numpy
    from PIL import Image

    read = lambda path: numpy.asarray(Image.open(path).convert("RGB")).astype(float)
    wanted = read(reference)
    worst = min(10 * numpy.log10(255**2 / max(((wanted - read(p)) ** 2).mean(), 1e-9)) for p in pictures)
    for path in pictures:
        error = ((wanted - read(path)) ** 2).mean()
        print(f"{path}: {10 * numpy.log10(255**2 / max(error, 1e-9)):.1f} dB against {reference}")
    return 0 if worst >= MIN_PSNR else 1


if __name__ == "__main__":
    if sys.argv[1] == "rows":
        print_rows(*sys.argv[2:5])
    else:
        sys.exit(psnr(sys.argv[2], sys.argv[3:]))
