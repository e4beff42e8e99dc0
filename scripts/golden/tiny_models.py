"""Builds the tiny random checkpoints: diffusers folders, a sharded variant and an SDXL single file.

Command: python scripts/golden/tiny_models.py
Writes tests/golden/tiny-sdxl/, tests/golden/tiny-sd15/, tests/golden/tiny-sd15-sharded-unet/ and
tests/golden/tiny-sdxl-single/ (weights and configurations only; tiny_golden.py adds the numbers).

Weights are stored in fp16 and are the exact values of every golden (computed in fp32). Each draw has
its own generator, seeded by a hash of the tensor's name, so adding a layer leaves the others alone.
Matrices have unit gain, norms a random affine, so activations neither vanish nor explode.
"""

import hashlib
import json
import shutil

import torch
from common import GOLDEN
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from single_file import to_single_file
from tokenizer import EOS, SMALL, tokenizer_config
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

VOCAB = json.loads((SMALL / "vocab.json").read_text(encoding="utf-8"))
BOS_ID, EOS_ID = len(VOCAB) - 2, len(VOCAB) - 1


def fill(model, tag, gains):
    """Seeds every parameter; gains maps a name suffix to a factor on top of unit gain."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            seed = int.from_bytes(hashlib.sha256(f"{tag}/{name}".encode()).digest()[:6], "little")
            x = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
            if name.endswith("bias"):
                x *= 0.1
            elif p.dim() == 1:
                x = 1 + 0.2 * x
            elif "embedding.weight" in name and "linear" not in name:
                x *= 0.7
            else:
                x *= p[0].numel() ** -0.5
            for suffix, gain in gains.items():
                if name.endswith(suffix + ".weight"):
                    x *= gain
            p.copy_(x.half().float())
    return model.eval()


RESIDUAL = {"conv2": 0.5, "to_out.0": 0.7, "ff.net.2": 0.7, "proj_out": 0.5, "out_proj": 0.7, "fc2": 0.7}


def text_config(hidden, layers, heads, act, eos_token_id):
    return CLIPTextConfig(
        vocab_size=len(VOCAB), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=77, hidden_act=act, projection_dim=hidden,
        bos_token_id=BOS_ID, eos_token_id=eos_token_id, pad_token_id=1,
    )  # fmt: skip


def tokenizer(pad):
    """A CLIPTokenizer over the small vocabulary; its files are written by write_tokenizer()."""
    return CLIPTokenizer(str(SMALL / "vocab.json"), str(SMALL / "merges.txt"), pad_token=pad, model_max_length=77)


def write_tokenizer(folder, pad):
    """The files of a released folder: vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(SMALL / name, folder / name)
    config = tokenizer_config(VOCAB, pad)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {key: config[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    for value in special.values():
        if isinstance(value, dict):
            value.pop("__type", None)
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


def sdxl():
    """Three UNet levels as in SDXL (the first without attention), f8 VAE, encoder 2 with the layer count that
    single-file detection looks for."""
    text = fill(CLIPTextModel(text_config(24, 3, 2, "quick_gelu", 2)), "sdxl-te1", RESIDUAL)
    text2 = fill(CLIPTextModelWithProjection(text_config(32, 10, 2, "gelu", EOS_ID)), "sdxl-te2", RESIDUAL)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 16, 24), layers_per_block=2, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 1, 2], attention_head_dim=[1, 2, 3], cross_attention_dim=56,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16), layers_per_block=2, latent_channels=4, norm_num_groups=8, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025, force_upcast=True,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    return StableDiffusionXLPipeline(
        vae=fill(vae, "sdxl-vae", {**RESIDUAL, "decoder.conv_out": 0.5, "encoder.conv_out": 0.7}),
        text_encoder=text, text_encoder_2=text2, tokenizer=tokenizer(EOS), tokenizer_2=tokenizer("!"),
        unet=fill(unet, "sdxl-unet", {**RESIDUAL, "conv_out": 1.0}), scheduler=scheduler,
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    )  # fmt: skip


def sd15():
    """Two UNet levels, convolutional projections, attention_head_dim 8 (which means eight heads), f2 VAE."""
    text = fill(CLIPTextModel(text_config(32, 3, 4, "quick_gelu", 2)), "sd15-te", RESIDUAL)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 32), layers_per_block=1, attention_head_dim=8, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=16, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.18215,
    )  # fmt: skip
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae=fill(vae, "sd15-vae", {**RESIDUAL, "decoder.conv_out": 0.5, "encoder.conv_out": 0.7}),
        text_encoder=text, tokenizer=tokenizer(EOS), unet=fill(unet, "sd15-unet", {**RESIDUAL, "conv_out": 1.0}),
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def save(pipeline, folder, legacy_text_names):
    """Saves fp16 weights in released file names; legacy_text_names adds the `text_model.` prefix of older files."""
    for part in (
        "model_index.json",
        "unet",
        "vae",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "scheduler",
    ):
        path = folder / part
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(pipeline, name, None) is not None:
            getattr(pipeline, name).half()
    pipeline.save_pretrained(folder)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(pipeline, name, None) is not None:
            getattr(pipeline, name).float()
    if legacy_text_names:
        path = folder / "text_encoder" / "model.safetensors"
        save_file({f"text_model.{k}": v for k, v in load_file(path).items()}, path, {"format": "pt"})
    write_tokenizer(folder / "tokenizer", EOS)
    if hasattr(pipeline, "tokenizer_2"):
        write_tokenizer(folder / "tokenizer_2", "!")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


def main():
    torch.set_num_threads(1)
    xl, sd = sdxl(), sd15()
    save(xl, GOLDEN / "tiny-sdxl", legacy_text_names=True)
    save(sd, GOLDEN / "tiny-sd15", legacy_text_names=False)

    sharded = GOLDEN / "tiny-sd15-sharded-unet"
    shutil.rmtree(sharded, ignore_errors=True)
    sd.unet.half().save_pretrained(sharded / "unet", max_shard_size="400KB")

    single = GOLDEN / "tiny-sdxl-single"
    single.mkdir(exist_ok=True)
    save_file(to_single_file(xl), single / "tiny_sdxl.safetensors", {"format": "pt"})
    for path in (*sharded.rglob("*.safetensors"), *single.rglob("*.safetensors")):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
