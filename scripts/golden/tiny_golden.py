"""Records component and pipeline numbers of the tiny checkpoints with diffusers in fp32.

Command: python scripts/golden/tiny_golden.py      (after tiny_models.py)
Writes golden/{components,pipelines}.safetensors and golden/pipelines.json below tests/golden/tiny-sdxl
and tests/golden/tiny-sd15. The format is described in scripts/golden/README.md.
"""

import contextlib
import importlib
import json

import numpy as np
import torch
from common import GOLDEN, update_manifest
from diffusers import (
    DPMSolverMultistepScheduler,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image
from safetensors.torch import save_file

PROMPT = "a glowing red fox in the rain, oil painting"
OTHER = "two tiny owls on the moon!"
NEGATIVE = "blurry, low quality!"
LONG = "a golden castle beside a river, watercolor, " * 15


def randn(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def load(cls, folder):
    pipe = cls.from_pretrained(GOLDEN / folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(pipe, name, None) is not None:
            getattr(pipe, name).eval()
    return pipe


# --- components ----------------------------------------------------------------------------------


def text_encoder_rows(out, key, encoder, tokenizer):
    texts = ["", PROMPT, "hello!", LONG]
    ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    result = encoder(ids, output_hidden_states=True)
    out[f"{key}.ids"] = ids.to(torch.int32)
    out[f"{key}.last_hidden_state"] = result.last_hidden_state
    out[f"{key}.penultimate"] = result.hidden_states[-2]
    if hasattr(result, "text_embeds"):
        out[f"{key}.text_embeds"] = result.text_embeds
    else:
        out[f"{key}.pooler_output"] = result.pooler_output


def unet_rows(out, unet, sizes, added):
    """added: None, or (pooled width) for SDXL's text_time conditioning."""
    width = unet.config.cross_attention_dim
    for n, (batch, height, low, timestep, tokens) in enumerate(sizes):
        key = f"unet.{n}"
        inputs = {
            "sample": randn((batch, 4, height, low), 100 + n),
            "timestep": torch.tensor([timestep] if batch == 1 else [timestep] * batch, dtype=torch.float32),
            "context": randn((batch, tokens, width), 200 + n),
        }
        condition = None
        if added is not None:
            inputs["text_embeds"] = randn((batch, added), 300 + n)
            ids = torch.tensor([[96, 128, 3, 5, 64, 48], [64, 48, 0, 0, 64, 48]][:batch], dtype=torch.float32)
            inputs["time_ids"] = ids
            condition = {"text_embeds": inputs["text_embeds"], "time_ids": ids}
        result = unet(inputs["sample"], inputs["timestep"], inputs["context"], added_cond_kwargs=condition).sample
        out |= {f"{key}.{name}": x for name, x in inputs.items()}
        out[f"{key}.out"] = result


def vae_rows(out, vae, sizes):
    for n, (batch, height, width) in enumerate(sizes):
        latent = randn((batch, 4, height, width), 400 + n)
        out[f"vae.decode.{n}.latent"] = latent
        out[f"vae.decode.{n}.image"] = vae.decode(latent).sample
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        image = torch.tanh(randn((batch, 3, height * scale, width * scale), 500 + n))
        posterior = vae.encode(image).latent_dist
        out[f"vae.encode.{n}.image"] = image
        out[f"vae.encode.{n}.mean"] = posterior.mean
        out[f"vae.encode.{n}.logvar"] = posterior.logvar  # clamped to [-30, 20]


# --- pipelines -----------------------------------------------------------------------------------

RANDN_USERS = (
    "diffusers.models.autoencoders.vae",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img",
    "diffusers.schedulers.scheduling_euler_ancestral_discrete",
    "diffusers.schedulers.scheduling_lcm",
)


@contextlib.contextmanager
def recorded_draws():
    """Collects every random tensor a pipeline draws, in the order of the generator."""
    draws, restore = [], []
    for name in RANDN_USERS:
        module = importlib.import_module(name)
        original = module.randn_tensor

        def draw(*args, _original=original, **kwargs):
            value = _original(*args, **kwargs)
            draws.append(value.clone())
            return value

        module.randn_tensor = draw
        restore.append((module, original))
    try:
        yield draws
    finally:
        for module, original in restore:
            module.randn_tensor = original


def smooth_image(width, height):
    """The init image of img2img: a fixed pattern in all three channels, uint8 HWC."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [np.sin(x / 5 + 1.3 * c) * np.cos(y / 7 - 0.4 * c) for c in range(3)]
    return np.round(127.5 + 120 * np.stack(planes, axis=-1)).astype(np.uint8)


def run_case(pipes, base_scheduler, case, out):
    """Runs one pipeline case and stores its tensors under '<name>.'; returns the JSON row."""
    case = dict(case)
    name = case.pop("name")
    cls, overrides = case.pop("scheduler", (type(base_scheduler), {}))
    image_to_image = "strength" in case
    pipe = pipes[image_to_image]
    pipe.scheduler = cls.from_config({**base_scheduler.config, **overrides})
    row = {"name": name, "kind": "i2i" if image_to_image else "t2i", **case}
    row["scheduler"] = {"_class_name": cls.__name__} | {k: v for k, v in pipe.scheduler.config.items() if k[0] != "_"}
    call = {k: v for k, v in case.items() if k not in ("latents_seed", "seed", "width", "height")}
    tensors = {}
    if image_to_image:
        pixels = smooth_image(case["width"], case["height"])
        tensors["init_image"] = torch.from_numpy(pixels)
        call["image"] = Image.fromarray(pixels)
    else:
        call |= {"width": case["width"], "height": case["height"]}
    if "latents_seed" in case:
        prompts = case["prompt"] if isinstance(case["prompt"], list) else [case["prompt"]]
        images = len(prompts) * case.get("num_images_per_prompt", 1)
        f = pipe.vae_scale_factor
        tensors["start_noise"] = randn((images, 4, case["height"] // f, case["width"] // f), case["latents_seed"])
        call["latents"] = tensors["start_noise"].clone()
    if "seed" in case:
        call["generator"] = torch.Generator().manual_seed(case["seed"])

    steps = []

    def after_step(_pipe, _index, _timestep, values):
        steps.append(values["latents"].clone())
        return values

    with recorded_draws() as draws:
        call["num_inference_steps"] = call.pop("steps")
        image = pipe(**call, output_type="np", callback_on_step_end=after_step).images
    if case["steps"] <= 4:
        tensors |= {f"step.{i}": x for i, x in enumerate(steps)}
    tensors |= {f"draw.{i}": x for i, x in enumerate(draws)}
    tensors["final_latents"] = steps[-1]
    tensors["image"] = torch.from_numpy(np.round(image * 255).astype(np.uint8))
    saturated = float(((image <= 0) | (image >= 1)).mean())
    print(f"  {name}: latents std {steps[-1].std():.3f} saturated pixels {saturated:.2%} draws {len(draws)}")
    out |= {f"{name}.{key}": x for key, x in tensors.items()}
    row["tensors"] = sorted(tensors)
    return row


TURBO = (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"})
DPMPP_2M = (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2})
DPMPP_2M_KARRAS = (DPMSolverMultistepScheduler, {**DPMPP_2M[1], "use_karras_sigmas": True})


def sdxl_cases():
    size = {"width": 48, "height": 64}
    base = {"prompt": PROMPT, "guidance_scale": 5.0, **size, "latents_seed": 7}
    return [
        {"name": "euler4", **base, "steps": 4},
        {"name": "euler4_negative_empty", **base, "steps": 4, "negative_prompt": ""},
        {"name": "euler4_negative", **base, "steps": 4, "negative_prompt": NEGATIVE},
        {"name": "euler20", **base, "steps": 20},
        {"name": "euler20_negative", **base, "steps": 20, "negative_prompt": NEGATIVE},
        {"name": "euler4_no_guidance", **base, "steps": 4, "guidance_scale": 1.0},
        {"name": "euler4_long_prompt", **base, "steps": 4, "prompt": LONG},
        {"name": "euler4_empty_prompt", **base, "steps": 4, "prompt": ""},
        {"name": "euler4_two_prompts", **base, "steps": 4, "prompt": [PROMPT, OTHER]},
        {"name": "euler4_two_images", **base, "steps": 4, "num_images_per_prompt": 2},
        {"name": "euler4_second_prompt", **base, "steps": 4, "prompt_2": OTHER},
        {"name": "euler4_sizes", **base, "steps": 4, "original_size": [96, 128], "crops_coords_top_left": [3, 5], "target_size": [60, 44]},
        {"name": "euler4_negative_sizes", **base, "steps": 4, "negative_original_size": [32, 24], "negative_crops_coords_top_left": [1, 2], "negative_target_size": [30, 20]},
        {"name": "euler4_rescale", **base, "steps": 4, "guidance_rescale": 0.7},
        {"name": "euler4_odd_size", **base, "steps": 4, "width": 72, "height": 40},
        {"name": "euler4_seeded", **{k: v for k, v in base.items() if k != "latents_seed"}, "steps": 4, "seed": 42},
        {"name": "euler_a4", **base, "steps": 4, "seed": 11, "scheduler": (EulerAncestralDiscreteScheduler, {})},
        {"name": "turbo1", **base, "steps": 1, "guidance_scale": 0.0, "seed": 11, "scheduler": TURBO},
        {"name": "turbo4", **base, "steps": 4, "guidance_scale": 0.0, "seed": 11, "scheduler": TURBO},
        {"name": "dpmpp_2m4", **base, "steps": 4, "scheduler": DPMPP_2M},
        {"name": "dpmpp_2m_karras4", **base, "steps": 4, "scheduler": DPMPP_2M_KARRAS},
        {"name": "lcm4", **base, "steps": 4, "guidance_scale": 0.0, "seed": 11, "scheduler": (LCMScheduler, {})},
        {"name": "euler20_karras", **base, "steps": 20, "scheduler": (EulerDiscreteScheduler, {"use_karras_sigmas": True})},
        {"name": "i2i_euler10", **{k: v for k, v in base.items() if k != "latents_seed"}, "steps": 10, "strength": 0.6, "seed": 5},
        {"name": "i2i_euler4_strength1", **{k: v for k, v in base.items() if k != "latents_seed"}, "steps": 4, "strength": 1.0, "seed": 5},
    ]  # fmt: skip


def sd15_cases():
    base = {"prompt": PROMPT, "guidance_scale": 7.5, "width": 24, "height": 40, "latents_seed": 8}
    seeded = {k: v for k, v in base.items() if k != "latents_seed"}
    euler = (EulerDiscreteScheduler, {})
    return [
        {"name": "pndm4", **base, "steps": 4},
        {"name": "pndm20_negative", **base, "steps": 20, "negative_prompt": NEGATIVE},
        {"name": "euler4", **base, "steps": 4, "scheduler": euler},
        {"name": "euler4_negative_empty", **base, "steps": 4, "negative_prompt": "", "scheduler": euler},
        {"name": "euler20", **base, "steps": 20, "scheduler": euler},
        {"name": "euler20_negative", **base, "steps": 20, "negative_prompt": NEGATIVE, "scheduler": euler},
        {"name": "euler4_no_guidance", **base, "steps": 4, "guidance_scale": 1.0, "scheduler": euler},
        {"name": "euler4_seeded", **seeded, "steps": 4, "seed": 42, "scheduler": euler},
        {"name": "euler_a4", **base, "steps": 4, "seed": 11, "scheduler": (EulerAncestralDiscreteScheduler, {})},
        {"name": "dpmpp_2m4", **base, "steps": 4, "scheduler": DPMPP_2M},
        {"name": "dpmpp_2m_karras20", **base, "steps": 20, "scheduler": DPMPP_2M_KARRAS},
        {"name": "ddim20", **base, "steps": 20, "scheduler": (DDIMScheduler, {"clip_sample": False})},
        {"name": "unipc20", **base, "steps": 20, "scheduler": (UniPCMultistepScheduler, {})},
        {"name": "i2i_pndm10", **seeded, "steps": 10, "strength": 0.6, "seed": 5},
        {"name": "i2i_euler10", **seeded, "steps": 10, "strength": 0.6, "seed": 5, "scheduler": euler},
    ]  # fmt: skip


def write(folder, components, pipelines, rows):
    golden = GOLDEN / folder / "golden"
    golden.mkdir(exist_ok=True)
    for name, tensors in (("components", components), ("pipelines", pipelines)):
        tensors = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        assert all(torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point())
        save_file(tensors, golden / f"{name}.safetensors")
        (golden / f"{name}.safetensors").chmod(0o644)
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    (golden / "pipelines.json").write_text('{"cases":[\n' + ",\n".join(lines) + "\n]}\n")
    update_manifest(folder, "tiny_models.py && python scripts/golden/tiny_golden.py")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    for folder, text, image, cases, unet_sizes, vae_sizes in (
        (
            "tiny-sdxl", StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline, sdxl_cases(),
            [(1, 16, 16, 951.0, 77), (2, 18, 14, 333.25, 77), (1, 7, 9, 0.0, 154)], [(1, 8, 6), (2, 5, 3)],
        ),
        (
            "tiny-sd15", StableDiffusionPipeline, StableDiffusionImg2ImgPipeline, sd15_cases(),
            [(1, 16, 16, 981.0, 77), (2, 13, 9, 41.0, 77)], [(1, 16, 12), (2, 7, 5)],
        ),
    ):  # fmt: skip
        print(folder)
        pipe = load(text, folder)
        parts, runs = {}, {}
        text_encoder_rows(parts, "text_encoder", pipe.text_encoder, pipe.tokenizer)
        xl = hasattr(pipe, "text_encoder_2")
        if xl:
            text_encoder_rows(parts, "text_encoder_2", pipe.text_encoder_2, pipe.tokenizer_2)
        unet_rows(parts, pipe.unet, unet_sizes, pipe.text_encoder_2.config.projection_dim if xl else None)
        vae_rows(parts, pipe.vae, vae_sizes)
        for key, x in parts.items():
            if x.is_floating_point() and key.split(".")[-1] in (
                "out",
                "image",
                "mean",
                "logvar",
                "penultimate",
                "text_embeds",
                "last_hidden_state",
            ):
                print(f"  {key} {tuple(x.shape)} mean {x.mean():.3f} std {x.std():.3f}")
        pipes = (pipe, load(image, folder))
        scheduler = pipe.scheduler
        rows = [run_case(pipes, scheduler, case, runs) for case in cases]
        write(folder, parts, runs, rows)


if __name__ == "__main__":
    main()
