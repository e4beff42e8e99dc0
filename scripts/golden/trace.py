"""Dumps the output of every submodule for one component golden, to find where a port first goes wrong.

Command: python scripts/golden/trace.py tests/golden/tiny-sdxl unet.0 OUT.safetensors
         (rows of golden/components.safetensors: unet.N, vae.decode.N, vae.encode.N, text_encoder, text_encoder_2)

Tensor names are `NNNN.<module path>` in the order in which the modules finished. Nothing here is committed.
"""

import pathlib
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection


def call(folder, row, golden):
    """Returns the module and a function that runs it on the golden's inputs."""
    kind = row.split(".")[0]
    path = folder / kind
    if kind == "unet":
        unet = UNet2DConditionModel.from_pretrained(path)
        names = [n for n in ("text_embeds", "time_ids") if f"{row}.{n}" in golden]
        added = {n: golden[f"{row}.{n}"] for n in names} or None
        inputs = [golden[f"{row}.{n}"] for n in ("sample", "timestep", "context")]
        return unet.float(), lambda m: m(*inputs, added_cond_kwargs=added)
    if kind == "vae":
        vae = AutoencoderKL.from_pretrained(path).float()
        if ".decode." in row:
            return vae, lambda m: m.decode(golden[f"{row}.latent"])
        return vae, lambda m: m.encode(golden[f"{row}.image"])
    cls = CLIPTextModelWithProjection if f"{row}.text_embeds" in golden else CLIPTextModel
    return cls.from_pretrained(path).float(), lambda m: m(golden[f"{row}.ids"].long())


@torch.no_grad()
def main():
    folder, row, out = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    golden = load_file(folder / "golden" / "components.safetensors")
    module, run = call(folder, row, golden)
    torch.set_num_threads(1)
    found = {}

    def record(name):
        def hook(_module, _inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            if isinstance(value, torch.Tensor):
                found[f"{len(found):04d}.{name}"] = value.detach().clone(memory_format=torch.contiguous_format)

        return hook

    for name, child in module.named_modules():
        if name:
            child.register_forward_hook(record(name))
    run(module.eval())
    save_file(found, out)
    for name, x in found.items():
        print(f"{name} {tuple(x.shape)} rms {x.square().mean().sqrt():.6g}")


if __name__ == "__main__":
    main()
