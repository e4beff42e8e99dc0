"""tests/golden/lpips: LPIPS (version 0.1) of made-up pictures by narrow random networks, with torch.

The networks have the layers of torchvision's AlexNet and VGG16 and few channels. Their files look as users have
them: alexnet.pth is torchvision's state dict as torch before 1.6 wrote it, alex.pth lpips' own layers, and
vgg.safetensors the state dict of a whole lpips.LPIPS. The distance is written out here as lpips computes it, in double
precision. The pictures are a formula (pictures.py).
"""

import collections
import shutil

import torch
from common import GOLDEN, f32, update_manifest, versions, write_rows
from pictures import pattern
from safetensors.torch import save_file
from torch.nn.functional import conv2d, max_pool2d, relu
from torch_files import write_stream

OUT = GOLDEN / "lpips"
# One list a stage: (index in torchvision's `features`, output channels, kernel, stride, padding), or "pool".
ALEX = [
    [(0, 6, 11, 4, 2)],
    ["pool", (3, 10, 5, 1, 2)],
    ["pool", (6, 12, 3, 1, 1)],
    [(8, 7, 3, 1, 1)],
    [(10, 8, 3, 1, 1)],
]
VGG = [
    [(0, 4, 3, 1, 1), (2, 5, 3, 1, 1)],
    ["pool", (5, 6, 3, 1, 1), (7, 6, 3, 1, 1)],
    ["pool", (10, 8, 3, 1, 1), (12, 7, 3, 1, 1), (14, 8, 3, 1, 1)],
    ["pool", (17, 9, 3, 1, 1), (19, 8, 3, 1, 1), (21, 8, 3, 1, 1)],
    ["pool", (24, 8, 3, 1, 1), (26, 8, 3, 1, 1), (28, 6, 3, 1, 1)],
]
POOL = {"alex": (3, 2), "vgg": (2, 2)}
SHIFT = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).reshape(1, 3, 1, 1)
SCALE = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).reshape(1, 3, 1, 1)
# width, height, and noise and seed of both pictures: equal ones, the smallest of AlexNet, wide, tall, large.
CASES = [
    (64, 48, (12, 1), (12, 1)),
    (31, 31, (0, 3), (40, 3)),
    (100, 35, (12, 1), (60, 2)),
    (40, 77, (90, 4), (5, 4)),
    (200, 150, (25, 5), (30, 6)),
]


def random_weights(stages, generator):
    weights, lins, channels = collections.OrderedDict(), collections.OrderedDict(), 3
    for number, stage in enumerate(stages):
        for layer in stage:
            if layer == "pool":
                continue
            index, out, kernel, _, _ = layer
            scale = (2 / (channels * kernel * kernel)) ** 0.5
            weights[f"features.{index}.weight"] = scale * torch.randn(out, channels, kernel, kernel, generator=generator)
            weights[f"features.{index}.bias"] = 0.2 * torch.randn(out, generator=generator)
            channels = out
        lins[f"lin{number}.model.1.weight"] = torch.rand(1, channels, 1, 1, generator=generator)
    return weights, lins


def features(net, stages, weights, image):
    x = (torch.from_numpy(image.copy()).double().permute(2, 0, 1)[None] / 127.5 - 1 - SHIFT) / SCALE
    results = []
    for stage in stages:
        for layer in stage:
            if layer == "pool":
                x = max_pool2d(x, *POOL[net])
                continue
            index, _, _, stride, padding = layer
            name = f"features.{index}"
            x = relu(conv2d(x, weights[name + ".weight"].double(), weights[name + ".bias"].double(), stride, padding))
        results.append(x)
    return results


def unit(x):
    return x / (torch.sqrt(torch.sum(x**2, dim=1, keepdim=True)) + 1e-10)


def distance(net, stages, weights, lins, a, b):
    total = 0.0
    pairs = zip(features(net, stages, weights, a), features(net, stages, weights, b))
    for number, (x, y) in enumerate(pairs):
        difference = (unit(x) - unit(y)) ** 2
        total += float(conv2d(difference, lins[f"lin{number}.model.1.weight"].double()).mean())
    return total


def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    rows = []
    for seed, (net, stages) in enumerate({"alex": ALEX, "vgg": VGG}.items()):
        generator = torch.Generator().manual_seed(seed + 1)
        weights, lins = random_weights(stages, generator)
        if net == "alex":
            classifier = {"classifier.1.weight": torch.ones(2, 3), "classifier.1.bias": torch.ones(2)}
            write_stream({**weights, **classifier}, OUT / "alexnet.pth")
            torch.save(lins, OUT / "alex.pth")
        else:
            whole = {"scaling_layer.shift": SHIFT.float(), "scaling_layer.scale": SCALE.float()}
            for number, stage in enumerate(stages):
                for index, *_ in (layer for layer in stage if layer != "pool"):
                    for part in ("weight", "bias"):
                        whole[f"net.slice{number + 1}.{index}.{part}"] = weights[f"features.{index}.{part}"]
                whole[f"lin{number}.model.1.weight"] = lins[f"lin{number}.model.1.weight"]
                whole[f"lins.{number}.model.1.weight"] = lins[f"lin{number}.model.1.weight"].clone()
            save_file(whole, OUT / "vgg.safetensors")
        for width, height, a, b in CASES:
            x, y = pattern(width, height, *a), pattern(width, height, *b)
            rows.append(
                {
                    "network": net,
                    "width": width,
                    "height": height,
                    "a": a,
                    "b": b,
                    "distance": f32(distance(net, stages, weights, lins, x, y)),
                }
            )
    write_rows(OUT / "golden.json", {"versions": versions()}, "rows", rows)
    update_manifest("lpips", "lpips.py")


if __name__ == "__main__":
    main()
