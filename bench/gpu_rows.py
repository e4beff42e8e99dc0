"""Rows of GPU results, and how far two pictures are apart.

Command: python3 bench/gpu_rows.py rows BENCH.json DEVICE.txt COMMAND PRECISION   (JSON lines of `halftone bench e2e`)
         python3 bench/gpu_rows.py psnr REFERENCE.png PICTURE.png   (fails below 40 dB; needs numpy and PIL)
Prints one JSON line a workload: workload, precision, median_ms, p10_ms, p90_ms, n, device, commit, command; scheme, activations and
attention where the command names them. Rows of whole images also tell memory, build times and what the device drew.
"""

import json
import pathlib
import sys

MIN_PSNR = 40.0
POWER = ("energy_j_per_image", "power_w", "power_limit_w", "sm_clock_mhz")  # of the whole run, those that were known


def workloads(report):
    """Names of what a whole run holds, each with its spread and how many runs of it one iteration takes."""
    request = report["request"]
    size, steps = request["width"], request["steps"]
    rows = request["batch_size"] * (2 if request["cfg"] else 1)
    images = request["batch_size"] * request["batch_count"]
    turbo = size == 512 and steps == 1
    modules = report["modules"]
    step = f"turbo_unet_512_b{rows}" if turbo else f"sdxl_unet_step_{size}_b{rows}"
    image = f"turbo_image_512_s{steps}" if turbo else f"sdxl_image_{size}_s{steps}"
    if request["batch_size"] > 1:
        image += "_batched"
    yield step, modules["unetxl"], steps * request["batch_count"], False
    yield f"vae_decode_{size}", modules["vae"], images, True
    prompts = 2 if request["cfg"] and request["negative_prompt"] is not None else 1
    encoders = [modules[name] for name in ("clip", "clip2", "clip+clip2") if name in modules]
    text = {key: sum(spread[key] for spread in encoders) for key in ("median", "p10", "p90")}
    yield f"text_encoders_b{prompts}", text, request["batch_count"], True
    yield image, report["total"], images, False


def print_rows(path, device_file, command, precision):
    device = pathlib.Path(device_file).read_text().splitlines()[-1].split(",")[0]
    for line in pathlib.Path(path).read_text().splitlines():
        report = json.loads(line)
        if report.get("workload") != "e2e":
            continue
        request = report["request"]
        vae = next(plan["precision"] for plan in report["plans"] if plan["component"] == "vae_decoder")
        vae = vae.split("+")[1].split("_")[0] if "+" in vae else vae  # fp32+int8_vae.bs2.s1...: int8
        for name, spread, count, is_plain in workloads(report):
            own = vae if name.startswith("vae") else request["precision"]
            row = {"workload": name, "precision": own if is_plain else precision, "n": report["n"]}
            for key in ("median", "p10", "p90"):
                row[f"{key}_ms"] = round(spread[key] / count, 4)
            words = command.split()
            for option in ("scheme", "activations", "attention"):
                if f"--{option}" in words and not is_plain:
                    row[option] = words[words.index(f"--{option}") + 1]
            row |= {"device": device, "commit": report["commit"], "command": command}
            if "_image_" in name:
                row |= {"memory": report["memory"], "load_and_build_ms": round(report["warmup_build_ms"])}
                row |= {"images_per_second": round(report["images_per_second"], 4)}
                row |= {"build_cold_ms": report["build_cold_ms"], "build_warm_ms": report["build_warm_ms"]}
                row |= {key: round(report[key], 2) for key in POWER if key in report}
            print(json.dumps(row))


def psnr(reference, picture):
    import numpy
    from PIL import Image

    read = lambda path: numpy.asarray(Image.open(path).convert("RGB")).astype(float)
    error = ((read(reference) - read(picture)) ** 2).mean()
    decibels = 10 * numpy.log10(255**2 / max(error, 1e-9))
    print(json.dumps({"workload": "picture", "picture": picture, "reference": reference, "psnr_db": round(decibels, 2)}))
    return 0 if decibels >= MIN_PSNR else 1


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    sys.exit({"rows": print_rows, "psnr": psnr}[verb](*words))
