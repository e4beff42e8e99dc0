"""tests/golden/mixdq-dump/calib.pt: calibration data as MixDQ's gen_calib_data.py saves them, for tiny-sdxl.

Two steps of three samples, random; the model's text width and 6x8 latents. Values rise by sample and by step, so that
a wrong axis shows. amax.json: the largest magnitude of each sample's latents at each step, and of its text. guided.pt
has two conditionings a sample, as a run with guidance would.
"""

import json

import torch
from common import GOLDEN, f32_list, update_manifest

OUT = GOLDEN / "mixdq-dump"
STEPS, SAMPLES, TOKENS = 2, 3, 77


def rising(generator, *shape):
    scale = torch.arange(1, STEPS * SAMPLES + 1).reshape(STEPS, SAMPLES, *[1] * len(shape))
    return torch.randn(STEPS, SAMPLES, *shape, generator=generator) * scale


def main():
    config = json.loads((GOLDEN / "tiny-sdxl" / "unet" / "config.json").read_text())
    generator = torch.Generator().manual_seed(3)
    ids = config["addition_time_embed_dim"] * 6
    pooled = config["projection_class_embeddings_input_dim"] - ids
    text = rising(generator, TOKENS, config["cross_attention_dim"])[:1].repeat(STEPS, 1, 1, 1)
    data = {
        "prompts": ["a cat", "a dog", "two birds"],
        "ts": torch.tensor([999, 499]).unsqueeze(1).repeat(1, SAMPLES),
        "xs": rising(generator, config["in_channels"], 6, 8),
        "text_embs": text,
        "added_cond_kwargs": {
            "text_embeds": rising(generator, pooled),
            "time_ids": torch.tensor([48.0, 64, 0, 0, 48, 64]).repeat(STEPS, SAMPLES, 1),
        },
    }
    OUT.mkdir(parents=True, exist_ok=True)
    torch.save(data, OUT / "calib.pt")
    guided = {k: data[k] for k in ("prompts", "ts", "xs")}
    guided["text_embs"] = torch.ones(STEPS, 2 * SAMPLES, 1, 1)
    torch.save(guided, OUT / "guided.pt")
    amax = {
        "xs": [f32_list(data["xs"][:, i].abs().amax(dim=(1, 2, 3))) for i in range(SAMPLES)],
        "text_embs": f32_list(text[0].abs().amax(dim=(1, 2))),
    }
    (OUT / "amax.json").write_text(json.dumps(amax) + "\n")
    update_manifest("mixdq-dump", "mixdq_dump.py")


if __name__ == "__main__":
    main()
