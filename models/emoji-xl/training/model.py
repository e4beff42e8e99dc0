"""Architecture of emoji-xl and assembly of its diffusers folder.

  python model.py --tokenizers DIR --out MODEL_DIR [--seed 0]     writes an untrained model
"""

import argparse
import pathlib
import shutil

import safetensors.torch
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

IMAGE_SIZE = 256
LATENT_SIZE = IMAGE_SIZE // 8
LATENT_CHANNELS = 4
TIME_ID_DIM = 32
VOCAB_SIZE = 3072
BOS_ID, EOS_ID = VOCAB_SIZE - 2, VOCAB_SIZE - 1

SCHEDULER = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
    prediction_type="v_prediction", timestep_spacing="leading", steps_offset=1, interpolation_type="linear",
    use_karras_sigmas=False,
)


def make_vae(scaling_factor=1.0):
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, sample_size=IMAGE_SIZE,
        block_out_channels=(64, 64, 96, 128), layers_per_block=1, norm_num_groups=32, act_fn="silu",
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=scaling_factor, force_upcast=False)


def _text_config(width, layers, act):
    return CLIPTextConfig(
        vocab_size=VOCAB_SIZE, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, max_position_embeddings=77, hidden_act=act, layer_norm_eps=1e-5,
        projection_dim=width, bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=EOS_ID)


def make_text_encoders():
    """The pipeline reads the penultimate hidden state, so the last layer of the first one is idle."""
    return (CLIPTextModel(_text_config(128, 3, "quick_gelu")),
            CLIPTextModelWithProjection(_text_config(192, 3, "gelu")))


def make_unet():
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 128), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2), attention_head_dim=(1, 2, 2),  # head counts: head width is 64
        cross_attention_dim=128 + 192, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_DIM, projection_class_embeddings_input_dim=192 + 6 * TIME_ID_DIM)


def make_scheduler():
    return EulerDiscreteScheduler(**SCHEDULER)


def load_tokenizers(folder):
    return (CLIPTokenizer.from_pretrained(f"{folder}/tokenizer"),
            CLIPTokenizer.from_pretrained(f"{folder}/tokenizer_2"))


def _save_weights(module, path):
    """Writes a text encoder with the key prefix of the published SDXL files (`text_model.`)."""
    state = {}
    for key, value in module.state_dict().items():
        if key.endswith("position_ids"):
            continue
        bare = key.startswith(("text_model.", "text_projection."))
        state[key if bare else f"text_model.{key}"] = value.contiguous()
    safetensors.torch.save_file(state, path, metadata={"format": "pt"})


def save_pipeline(out, tokenizer_source, vae, text_encoders, unet, dtype=torch.float16):
    """Writes the diffusers folder; weights are cast to `dtype` in place."""
    tokenizers = load_tokenizers(tokenizer_source)
    pipe = StableDiffusionXLPipeline(
        vae=vae, text_encoder=text_encoders[0], text_encoder_2=text_encoders[1], tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1], unet=unet, scheduler=make_scheduler(), force_zeros_for_empty_prompt=True,
        add_watermarker=False)
    pipe.to(dtype=dtype)
    pipe.save_pretrained(out, safe_serialization=True)
    out = pathlib.Path(out)
    for name, encoder in zip(("text_encoder", "text_encoder_2"), text_encoders):
        _save_weights(encoder, out / name / "model.safetensors")
        config = out / name / "config.json"  # without this, transformers 5 would load fp16 beside an fp32 UNet
        config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(out / name)
        shutil.copytree(pathlib.Path(tokenizer_source) / name, out / name, copy_function=shutil.copyfile)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--tokenizers", required=True, help="folder holding tokenizer/ and tokenizer_2/")
    ap.add_argument("--out", required=True)
    ap.add_argument("--seed", type=int, default=0)
    args = ap.parse_args()
    torch.manual_seed(args.seed)
    parts = {"vae": make_vae(), "text": make_text_encoders(), "unet": make_unet()}
    for name, part in parts.items():
        modules = part if isinstance(part, tuple) else (part,)
        print(name, [sum(p.numel() for p in m.parameters()) for m in modules])
    save_pipeline(args.out, args.tokenizers, parts["vae"], parts["text"], parts["unet"])


if __name__ == "__main__":
    main()
