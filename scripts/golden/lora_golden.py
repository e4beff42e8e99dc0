"""Records diffusers' final latents with LoRAs, in fp32: random ones on tiny-sdxl, and emoji-xl-lcm on emoji-xl.

Command: python scripts/golden/lora_golden.py
Run it again whenever those weights change.
"""

import json

import torch
from common import GOLDEN, ROOT, update_manifest
from diffusers import EulerDiscreteScheduler, LCMScheduler, StableDiffusionXLPipeline
from safetensors.torch import save_file
from tiny_golden import run_case

OUT = GOLDEN / "lora"
RANK = 2
UNET_ENDS = ("attn1.to_q", "attn2.to_k", "attn2.to_out.0", "proj_in", "ff.net.0.proj", "conv1", "conv_shortcut",
             "downsamplers.0.conv", "time_emb_proj")
TEXT_ENDS = ("self_attn.out_proj", "mlp.fc1")


def layers_of(module, ends, every):
    """(path, weight) of every n-th layer with one of these names; text encoders always with `text_model.`."""
    found = [(n, m.weight) for n, m in module.named_modules() if n.endswith(ends) and hasattr(m, "weight")]
    return found[::every]


def factors(weight, g):
    kernel = weight.shape[2:]
    down = torch.randn((RANK, weight.shape[1], *kernel), generator=g) / weight[0].numel() ** 0.5
    up = torch.randn((weight.shape[0], RANK, *[1] * len(kernel)), generator=g) * 0.5
    return down.half(), up.half()


def with_text_model(path):
    return path if path.startswith("text_model.") else f"text_model.{path}"


def kohya_file(pipe, path):
    """UNet (linear and convolution) and both text encoders; alpha is not the rank."""
    g, state = torch.Generator().manual_seed(1), {}
    parts = [("lora_unet_", pipe.unet, UNET_ENDS, 3, lambda p: p)]
    for prefix, encoder in (("lora_te1_", pipe.text_encoder), ("lora_te2_", pipe.text_encoder_2)):
        parts.append((prefix, encoder, TEXT_ENDS, 3, with_text_model))
    for prefix, module, ends, every, rename in parts:
        for name, weight in layers_of(module, ends, every):
            down, up = factors(weight, g)
            key = prefix + rename(name).replace(".", "_")
            state[f"{key}.lora_down.weight"], state[f"{key}.lora_up.weight"] = down, up
            state[f"{key}.alpha"] = torch.tensor(3.0, dtype=torch.float16)
    save_file(state, path)


def peft_file(pipe, path):
    """UNet alone, with PEFT's metadata; one module has an alpha of its own."""
    g, layers = torch.Generator().manual_seed(2), {}
    found = layers_of(pipe.unet, UNET_ENDS, 4)
    for name, weight in found:
        layers[f"{name}.lora_A.weight"], layers[f"{name}.lora_B.weight"] = factors(weight, g)
    targets = [name for name, _ in found]
    metadata = {"r": RANK, "lora_alpha": 4, "alpha_pattern": {targets[0]: 8}, "target_modules": targets}
    StableDiffusionXLPipeline.save_lora_weights(
        path.parent, unet_lora_layers=layers, weight_name=path.name, unet_lora_adapter_metadata=metadata)


def load(model, lora=None, scale=1.0):
    pipe = StableDiffusionXLPipeline.from_pretrained(model, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        part.float().eval()
    if lora:
        parts = (pipe.unet, pipe.text_encoder, pipe.text_encoder_2)
        before = [{n: p.clone() for n, p in part.named_parameters()} for part in parts]
        pipe.load_lora_weights(lora)
        pipe.fuse_lora(lora_scale=scale)
        pipe.unload_lora_weights()
        changed = [sum(bool((p != old[n]).any()) for n, p in part.named_parameters())
                   for part, old in zip(parts, before)]
        print(f"  {lora}: changed parameters of the unet and the text encoders: {changed}")
    return pipe


def record(folder, pipe, case, scale):
    runs = {}
    row = run_case((pipe, None), pipe.scheduler, case, runs)
    kept = ("start_noise", "final_latents")
    row["tensors"] = [t for t in row["tensors"] if t in kept]
    row["lora_weight"] = scale
    runs = {k: v.contiguous() for k, v in runs.items() if k.split(".", 1)[1] in kept}
    save_file(runs, folder / "pipelines.safetensors")
    (folder / "pipelines.safetensors").chmod(0o644)
    (folder / "pipelines.json").write_text('{"cases":[\n' + json.dumps(row) + "\n]}\n")


@torch.no_grad()
def main():
    torch.set_num_threads(2)
    tiny = GOLDEN / "tiny-sdxl"
    case = {"prompt": "a cat on a chair", "negative_prompt": "blurry", "guidance_scale": 5.0, "width": 64,
            "height": 48, "steps": 4, "latents_seed": 3, "scheduler": (EulerDiscreteScheduler, {})}
    for name, write, scale in (("kohya", kohya_file, 0.7), ("peft", peft_file, 1.0)):
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        write(load(tiny), folder / "lora.safetensors")
        (folder / "lora.safetensors").chmod(0o644)
        record(folder, load(tiny, folder / "lora.safetensors", scale), {"name": name, **case}, scale)
    folder = OUT / "emoji-xl-lcm"
    folder.mkdir(parents=True, exist_ok=True)
    pipe = load(ROOT / "models" / "emoji-xl", ROOT / "models" / "emoji-xl-lcm" / "pytorch_lora_weights.safetensors")
    record(folder, pipe, {"name": "lcm4", "prompt": "a red heart", "guidance_scale": 0.0, "width": 256, "height": 256,
                          "steps": 4, "seed": 5, "scheduler": (LCMScheduler, {})}, 1.0)
    update_manifest("lora", "lora_golden.py")


if __name__ == "__main__":
    main()
