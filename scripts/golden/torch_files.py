"""tests/golden/torch: small files really written by torch.save, as MixDQ writes its quantization parameters.

ckpt.pth      {"<layer>.weight_quantizer": [OrderedDict(delta_list, zero_point_list, delta, zero_point, alpha),
              OrderedDict()], "<layer>.act_quantizer": ..., "..act_quantizer_q": ...}, float32
new_ckpt.pth  the same without the lists, [3, channels] and [3], float16
act_sensitive.pt  a list of layers
stream.pt     values.pt as torch before 1.6 wrote it
values.pt     plain values, a transposed tensor, a view, a Parameter, a tensor of each type

The seed is fixed; torch writes the same bytes for the same version.
"""
import collections
import io
import pickle

import torch

import common

FOLDER = common.GOLDEN / "torch"


def weight(generator, channels, rank):
    delta = 0.001 + 0.01 * torch.rand(3, channels, *[1] * (rank - 1), generator=generator)
    return buffers(delta, torch.zeros_like(delta))


def act(low, high):
    deltas, zeros = [], []
    for bits in (2, 4, 8):
        delta = (high - low) / (2**bits - 1)
        deltas.append(delta)
        zeros.append(round(-low / delta))
    return buffers(torch.tensor(deltas).reshape(3, 1), torch.tensor(zeros, dtype=torch.float32).reshape(3, 1))


def buffers(delta, zero):
    named = collections.OrderedDict(
        delta_list=delta, zero_point_list=zero, delta=delta[2].clone(), zero_point=zero[2].clone(),
        alpha=torch.tensor(0.5))
    return [named, collections.OrderedDict()]


SIZES = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
         "Bool": 1}


class Storages(pickle.Unpickler):
    """Reads past a pickle; notes the storages that it names."""

    def __init__(self, file):
        super().__init__(file)
        self.found = {}

    def find_class(self, module, name):
        return name.removesuffix("Storage") if name.endswith("Storage") else lambda *_: {}

    def persistent_load(self, name):
        _, kind, key, _, count, _ = name
        self.found.setdefault(key, 8 + count * SIZES[kind])


def write_stream(values, path):
    """As torch before 1.6; storages, which torch names and sorts by address, by first use instead."""
    stream = io.BytesIO()
    torch.save(values, stream, _use_new_zipfile_serialization=False)
    stream.seek(0)
    for _ in range(3):
        pickle.Unpickler(stream).load()
    storages = Storages(stream)
    storages.load()
    head = stream.getvalue()[:stream.tell()]
    data = {key: None for key in pickle.Unpickler(stream).load()}
    for key in data:
        data[key] = stream.read(storages.found[key])
    names = {key: str(i).zfill(len(key)) for i, key in enumerate(storages.found)}
    for key, name in names.items():
        head = head.replace(key.encode(), name.encode())
    tail = pickle.dumps(list(names.values()), protocol=2)
    path.write_bytes(head + tail + b"".join(data[key] for key in names))


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    ckpt = {
        "conv_in.weight_quantizer": weight(generator, 4, 4),
        "conv_in.act_quantizer": act(-3.0, 4.5),
        "up_blocks.0.resnets.0.conv_shortcut.weight_quantizer": weight(generator, 2, 4),
        "up_blocks.0.resnets.0.conv_shortcut.weight_quantizer_0": weight(generator, 2, 4),
        "up_blocks.0.resnets.0.conv_shortcut.act_quantizer": act(-1.0, 2.0),
        "up_blocks.0.resnets.0.conv_shortcut.act_quantizer_0": act(-8.0, 7.0),
        "mid_block.attentions.0.transformer_blocks.0.attn1.act_quantizer_q": act(-1.0, 1.0),
    }
    torch.save(ckpt, FOLDER / "ckpt.pth")
    small = {}
    for name, (named, _) in ckpt.items():
        if name.endswith("_q"):
            continue
        small[name] = {k: named[k].reshape(3, -1).squeeze(-1).half() if "weight" in name else
                       named[k].reshape(3).half() for k in ("delta_list", "zero_point_list")}
    torch.save(small, FOLDER / "new_ckpt.pth")
    torch.save(["model.conv_in", "down_blocks.0.resnets.0.conv2"], FOLDER / "act_sensitive.pt")
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    values = {
        "none": None, "true": True, "int": -5, "large": 2**40, "float": 0.25, "text": "é",
        "tuple": (1, (2, 3)), "size": base.size(), "transposed": base.t(), "view": base[1:, 1:3],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{str(t): torch.tensor([0, 1, 3], dtype=t) for t in (
            torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
            torch.uint8, torch.bool)},
    }
    torch.save(values, FOLDER / "values.pt")
    write_stream(values, FOLDER / "stream.pt")
    common.update_manifest("torch", "torch_files.py")


if __name__ == "__main__":
    main()
