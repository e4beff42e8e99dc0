"""Records diffusers' numbers of the embedded model: each component and one 20-step CFG run, in fp32.

Command: python scripts/golden/emoji_golden.py [MODEL_DIR [OUT_DIR]]
  MODEL_DIR defaults to models/emoji-xl, OUT_DIR to tests/golden/emoji-xl. Run it again whenever the weights change:
  weights.json holds the SHA-256 of the files the numbers belong to.
"""

import hashlib
import json
import pathlib
import sys

import torch
from common import GOLDEN, ROOT, update_manifest
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
from tiny_golden import randn, run_case, vae_rows

PROMPT = "a red heart"
NEGATIVE = "blurry"


def components(pipe):
    out = {}
    for key, encoder, tokenizer in (
        ("text_encoder", pipe.text_encoder, pipe.tokenizer),
        ("text_encoder_2", pipe.text_encoder_2, pipe.tokenizer_2),
    ):
        ids = tokenizer([PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        result = encoder(ids, output_hidden_states=True)
        out[f"{key}.ids"] = ids.to(torch.int32)
        out[f"{key}.penultimate"] = result.hidden_states[-2]
        if hasattr(result, "text_embeds"):
            out[f"{key}.text_embeds"] = result.text_embeds
    context = torch.cat([out["text_encoder.penultimate"], out["text_encoder_2.penultimate"]], dim=-1)
    ids = torch.tensor([[256, 256, 0, 0, 256, 256]], dtype=torch.float32)
    for n, (height, width, timestep) in enumerate(((32, 32, 951.0), (18, 26, 101.0))):
        sample = randn((1, 4, height, width), 100 + n)
        condition = {"text_embeds": out["text_encoder_2.text_embeds"], "time_ids": ids}
        out[f"unet.{n}.sample"] = sample
        out[f"unet.{n}.timestep"] = torch.tensor([timestep])
        out[f"unet.{n}.out"] = pipe.unet(sample, torch.tensor([timestep]), context, added_cond_kwargs=condition).sample
    out["unet.time_ids"] = ids
    vae_rows(out, pipe.vae, [(1, 8, 10)])
    return out


@torch.no_grad()
def main():
    torch.set_num_threads(2)
    model = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "models" / "emoji-xl"
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else GOLDEN / "emoji-xl"
    out.mkdir(parents=True, exist_ok=True)
    pipe = StableDiffusionXLPipeline.from_pretrained(model, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        part.float().eval()
    size = {"width": 256, "height": 256}
    case = {
        "name": "cfg20",
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "guidance_scale": 5.0,
        **size,
        "steps": 20,
        "latents_seed": 7,
    }
    runs = {}
    rows = [run_case((pipe, None), pipe.scheduler, case, runs)]
    for name, tensors in (("components", components(pipe)), ("pipelines", runs)):
        tensors = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        assert all(torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point())
        save_file(tensors, out / f"{name}.safetensors")
        (out / f"{name}.safetensors").chmod(0o644)
    (out / "pipelines.json").write_text('{"cases":[\n' + ",\n".join(json.dumps(r) for r in rows) + "\n]}\n")
    hashes = {
        str(p.relative_to(model)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(model.rglob("*.safetensors"))
    }
    (out / "weights.json").write_text(json.dumps(hashes, indent=1) + "\n")
    if out == GOLDEN / "emoji-xl":
        update_manifest("emoji-xl", "emoji_golden.py")


if __name__ == "__main__":
    main()
