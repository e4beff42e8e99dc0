"""Components of options that the released models leave at their defaults, with diffusers' numbers in fp32.

Command: python scripts/golden/model_variants.py
Writes tests/golden/model-variants/{per-level,plain}/: unet/ and vae/ as in a diffusers folder, and
golden/components.safetensors with the rows of tiny_golden.py. "per-level": layers, heads and transformer
depths differ by level and, on the way up, by layer. "plain": no mid block, other sinusoids and width of
the time embedding, a VAE of one level without attention and 1x1 convolutions.
"""

import torch
from common import GOLDEN, update_manifest
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from tiny_golden import unet_rows, vae_rows
from tiny_models import RESIDUAL, fill

FOLDER = "model-variants"

UNETS = {
    "per-level": {
        "block_out_channels": (8, 12, 16), "layers_per_block": (1, 3, 2), "attention_head_dim": (2, 3, 4),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 0, (2, 1)),
        "reverse_transformer_layers_per_block": ((1, 0, 2), 1, 1), "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 6,
        "projection_class_embeddings_input_dim": 6 * 6 + 10,
    },
    "plain": {
        "block_out_channels": (8, 12), "layers_per_block": 1, "attention_head_dim": 2, "mid_block_type": None,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "upcast_attention": True, "norm_eps": 1e-6,
        "flip_sin_to_cos": False, "freq_shift": 1, "time_embedding_dim": 20,
    },
}  # fmt: skip

VAES = {
    "per-level": {"block_out_channels": (8, 16), "layers_per_block": 2, "scaling_factor": 0.5, "latent_channels": 4},
    "plain": {
        "block_out_channels": (8,), "scaling_factor": 1.3, "use_quant_conv": False, "use_post_quant_conv": False,
        "mid_block_add_attention": False,
    },
}  # fmt: skip


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    for name in UNETS:
        folder = GOLDEN / FOLDER / name
        common = {"sample_size": 8, "norm_num_groups": 4, "cross_attention_dim": 12}
        unet = fill(UNet2DConditionModel(**common, **UNETS[name]), f"{name}/unet", RESIDUAL)
        levels = len(VAES[name]["block_out_channels"])
        vae = AutoencoderKL(
            norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels, **VAES[name],
        )  # fmt: skip
        vae = fill(vae, f"{name}/vae", RESIDUAL)
        out = {}
        added = 10 if "addition_embed_type" in UNETS[name] else None
        unet_rows(out, unet, [(1, 8, 8, 951.0, 7), (2, 7, 9, 3.25, 7)], added)
        vae_rows(out, vae, [(2, 5, 3)])
        unet.half().save_pretrained(folder / "unet")
        vae.half().save_pretrained(folder / "vae")
        (folder / "golden").mkdir(exist_ok=True)
        out = {k: v.clone(memory_format=torch.contiguous_format) for k, v in out.items()}
        assert all(torch.isfinite(v).all() for v in out.values())
        save_file(out, folder / "golden" / "components.safetensors")
    update_manifest(FOLDER, "model_variants.py")


if __name__ == "__main__":
    main()
