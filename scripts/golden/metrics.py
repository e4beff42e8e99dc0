"""tests/golden/metrics: PSNR, SSIM and MS-SSIM of made-up pictures, by scikit-image and torchmetrics.

Needs scikit-image and torchmetrics beside torch and numpy. The pictures are a formula in integers
(pictures.py, src/metrics/pattern.h), so only the figures are stored.
"""
import importlib.metadata

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

import common
from pictures import pattern

BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(a, b):
    """Wang et al. 2003 from torchmetrics' parts, which average the contrast term where the window fits; its own
    MS-SSIM averages the last scale over mirrored borders as well."""
    x, y = (torch.from_numpy(v).permute(2, 0, 1)[None].double() for v in (a, b))
    result = 1.0
    for scale, beta in enumerate(BETAS):
        if scale + 1 == len(BETAS):
            full = structural_similarity_index_measure(x, y, data_range=255.0, return_full_image=True)[1]
            term = full[..., 5:-5, 5:-5].mean()
        else:
            term = structural_similarity_index_measure(x, y, data_range=255.0, return_contrast_sensitivity=True)[1]
            x, y = (torch.nn.functional.avg_pool2d(v, 2) for v in (x, y))
        result *= max(float(term), 0.0) ** beta
    return result


def case(width, height, noise):
    a, b = pattern(width, height, 0, 1), pattern(width, height, noise, 7)
    ssim = structural_similarity(
        a, b, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return {
        "width": width,
        "height": height,
        "noise": noise,
        "psnr": float(peak_signal_noise_ratio(a, b, data_range=255)),
        "ssim": float(ssim),
        "ms_ssim": ms_ssim(a, b) if min(width, height) >= 176 else None,
    }


def main():
    rows = [case(w, h, n) for w, h, n in [(64, 48, 12), (33, 11, 40), (176, 190, 3), (181, 177, 60), (200, 256, 120)]]
    names = ("scikit-image", "torchmetrics", "torch", "numpy")
    head = {"versions": {name: importlib.metadata.version(name) for name in names}}
    common.write_rows(common.GOLDEN / "metrics" / "metrics.json", head, "rows", rows)
    common.update_manifest("metrics", "metrics.py")


if __name__ == "__main__":
    main()
