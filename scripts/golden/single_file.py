"""Writes a diffusers SDXL pipeline in the single-file layout: LDM UNet and VAE names, OpenCLIP text encoder 2.

Command: python scripts/golden/single_file.py
  Converts tests/golden/tiny-sdxl-single/tiny_sdxl.safetensors back with diffusers' own functions and compares
  every tensor with tests/golden/tiny-sdxl/.
"""

import re

import torch

UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(name, unet):
    """LDM name of a diffusers UNet parameter."""
    stem, kind = name.rsplit(".", 1)
    if stem in UNET_ENDS:
        return f"{UNET_ENDS[stem]}.{kind}"
    depth = unet.config.layers_per_block + 1
    where, part, index, rest = re.fullmatch(
        r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
    ).groups()
    index, number = int(index), int(where.split(".")[1]) if "." in where else 0
    if part == "resnets":
        module, tail = rest.rsplit(".", 1)
        rest = f"{UNET_RESNET[module]}.{tail}"
    if where == "mid_block":
        return f"middle_block.{2 * index if part == 'resnets' else 1}.{rest}"
    if where.startswith("down"):
        if part == "downsamplers":
            return f"input_blocks.{depth * (number + 1)}.0.op.{kind}"
        return f"input_blocks.{depth * number + index + 1}.{0 if part == 'resnets' else 1}.{rest}"
    if part == "upsamplers":
        slot = 2 if hasattr(unet.up_blocks[number], "attentions") else 1
        return f"output_blocks.{depth * number + depth - 1}.{slot}.conv.{kind}"
    return f"output_blocks.{depth * number + index}.{0 if part == 'resnets' else 1}.{rest}"


def vae_name(name, levels):
    """LDM name of a diffusers VAE parameter; up levels count from the last."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    found = re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.+)\.(weight|bias)", name)
    return f"{found[1]}mid.attn_1.{VAE_ATTENTION[found[2]]}.{found[3]}" if found else name


def openclip(state, layers):
    """OpenCLIP names: q, k, v fused into in_proj, text_projection transposed."""
    out = {
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "ln_final.weight": state["text_model.final_layer_norm.weight"],
        "ln_final.bias": state["text_model.final_layer_norm.bias"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
        "logit_scale": torch.tensor(4.6052, dtype=torch.float16),
    }
    names = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for i in range(layers):
        src, dst = f"text_model.encoder.layers.{i}.", f"transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            fused = [state[f"{src}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            out[f"{dst}attn.in_proj_{kind}"] = torch.cat(fused)
            for ours, theirs in names.items():
                out[f"{dst}{theirs}.{kind}"] = state[f"{src}{ours}.{kind}"]
    return out


def to_single_file(pipeline):
    """All tensors of the pipeline under single-file names, fp16."""
    out = {}
    for name, x in pipeline.unet.state_dict().items():
        out["model.diffusion_model." + unet_name(name, pipeline.unet)] = x
    levels = len(pipeline.vae.config.block_out_channels)
    for name, x in pipeline.vae.state_dict().items():
        ldm = vae_name(name, levels)
        is_matrix = ".attn_1." in ldm and x.dim() == 2
        out["first_stage_model." + ldm] = x[:, :, None, None] if is_matrix else x
    for name, x in pipeline.text_encoder.state_dict().items():
        name = name.removeprefix("text_model.")
        out["conditioner.embedders.0.transformer.text_model." + name] = x
    layers = pipeline.text_encoder_2.config.num_hidden_layers
    for name, x in openclip(pipeline.text_encoder_2.state_dict(), layers).items():
        out["conditioner.embedders.1.model." + name] = x
    out = {k: v.half().contiguous() for k, v in out.items()}
    positions = "conditioner.embedders.0.transformer.text_model.embeddings.position_ids"
    out[positions] = torch.arange(77, dtype=torch.int64)[None]
    return out


def compare(ours, theirs, what):
    missing, surplus = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    assert not missing and not surplus, (what, missing[:5], surplus[:5])
    for name, x in theirs.items():
        assert ours[name].shape == x.shape and torch.equal(ours[name].float(), x.float()), (what, name)
    print(f"{what}: {len(theirs)} tensors equal")


def main():
    from common import GOLDEN
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as df
    from safetensors.torch import load_file
    from transformers import CLIPTextModelWithProjection

    base = GOLDEN / "tiny-sdxl"
    single = load_file(GOLDEN / "tiny-sdxl-single" / "tiny_sdxl.safetensors")
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    compare(df.convert_ldm_unet_checkpoint(dict(single), unet.config), unet.state_dict(), "unet")
    vae = AutoencoderKL.from_pretrained(base / "vae")
    compare(df.convert_ldm_vae_checkpoint(dict(single), vae.config), vae.state_dict(), "vae")
    text2 = CLIPTextModelWithProjection.from_pretrained(base / "text_encoder_2")
    back = df.convert_open_clip_checkpoint(text2, dict(single), "conditioner.embedders.1.model.")
    compare(back, text2.state_dict(), "text_encoder_2")
    back = df.convert_ldm_clip_checkpoint(dict(single), "conditioner.embedders.0.transformer.")
    back = {k: v for k, v in back.items() if not k.endswith("position_ids")}
    compare(back, load_file(base / "text_encoder" / "model.safetensors"), "text_encoder")
    print("detected as", df.infer_diffusers_model_type(single))


if __name__ == "__main__":
    main()
