"""tests/golden/clip-score: a tiny random CLIPModel with scores of made-up pictures, by transformers.

The folder is a CLIPModel's but for the tokenizer, which is tests/golden/tokenizer/small. Weights are
stored in fp16; the numbers are computed in fp32 on exactly those values. The pictures are a formula
(pictures.py).
"""

import hashlib
import shutil
import tempfile

import torch
from common import GOLDEN, f32, f32_list, update_manifest, versions, write_rows
from pictures import pattern
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

OUT = GOLDEN / "clip-score"
SMALL = GOLDEN / "tokenizer" / "small"
MAX_TOKENS = 77
SEED = 6  # gives scores above and below 0
# width, height, noise, seed, prompt: wide, tall, small, equal to the wanted size, and a text that is cut.
# In all of them Pillow resizes rows first; Pillow 13 takes columns first where that is less work.
CASES = [
    (64, 48, 12, 1, "a photo of a cat"),
    (48, 64, 40, 2, "LATIN SMALL LETTER A with a red ball, 2 dogs"),
    (23, 20, 0, 3, ""),
    (40, 40, 90, 4, "the sea"),
    (200, 77, 25, 5, "a small house on a hill, " * 12),
    (45, 40, 120, 6, "two birds"),
    (300, 299, 5, 7, "snow"),
]


def random_model(vocab, seed):
    config = CLIPConfig(
        text_config={
            "vocab_size": len(vocab),
            "hidden_size": 8,
            "intermediate_size": 20,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": MAX_TOKENS,
            "bos_token_id": vocab["<|startoftext|>"],
            "eos_token_id": vocab["<|endoftext|>"],
            "pad_token_id": vocab["<|endoftext|>"],
        },
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 36,
            "patch_size": 8,
            "hidden_act": "gelu",
        },
        projection_dim=10,
    )
    model = CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            is_norm = "norm" in name or "layrnorm" in name
            if is_norm:
                value = 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
            elif p.dim() > 1 and "embedding" not in name:
                value = noise * p[0].numel() ** -0.5
            else:
                value = 0.5 * noise
            p.copy_(value.half().float())
    return model


def main():
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(SMALL / name, folder)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    model = random_model(tokenizer.get_vocab(), SEED)
    model.half().save_pretrained(OUT)
    model.float()
    size = model.config.vision_config.image_size
    processor = CLIPImageProcessorPil(size={"shortest_edge": size + 4}, crop_size={"height": size, "width": size})
    processor.save_pretrained(OUT)
    rows = []
    for width, height, noise, seed, prompt in CASES:
        image = Image.fromarray(pattern(width, height, noise, seed))
        plain = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        cropped = plain.transpose(1, 2, 0).astype("uint8")
        pixels = processor(image, return_tensors="pt")["pixel_values"].float()
        text = tokenizer(prompt, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.no_grad():
            result = model(pixel_values=pixels, **text)
            x = model.get_image_features(pixel_values=pixels).pooler_output[0]
            y = model.get_text_features(**text).pooler_output[0]
        cosine = float(torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=0))
        logit = float(result.logits_per_image.detach()) / float(model.logit_scale.detach().exp())
        assert abs(cosine - logit) < 1e-5, (cosine, logit)
        rows.append(
            {
                "width": width,
                "height": height,
                "noise": noise,
                "seed": seed,
                "prompt": prompt,
                "crop_sha256": hashlib.sha256(cropped.tobytes()).hexdigest(),
                "image": f32_list(x),
                "text": f32_list(y),
                "score": f32(max(100 * cosine, 0.0)),
            }
        )
    write_rows(OUT / "golden.json", {"versions": versions()}, "rows", rows)
    update_manifest("clip-score", "clip_score.py")


if __name__ == "__main__":
    main()
