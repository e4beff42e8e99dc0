"""tests/golden/quantization: numbers of torch.ao's observers, fake quantization and float8 casts, and of
formulas that ModelOpt, torchao and MixDQ document, written out here in torch.

Inputs have outliers. Everything is float32 unless said otherwise; see README.md for the tensors.
"""
import math

import numpy as np
import torch
from safetensors.torch import save_file
from torch.ao.quantization.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
)

import common

FOLDER = "quantization"


def outliers(generator, *shape):
    """Normal values; every 29th forty times as large."""
    x = torch.randn(*shape, generator=generator)
    flat = x.view(-1)
    flat[::29] *= 40
    return x


def f8_cases():
    """Every E4M3 value, the middle of every pair of neighbours, and the floats next to each middle; both signs,
    up to where torch's cast (which does not saturate) leaves the range."""
    codes = torch.arange(0, 0x7F, dtype=torch.uint8)
    values = codes.view(torch.float8_e4m3fn).float().numpy()
    middles = ((values[1:].astype(np.float64) + values[:-1]) / 2).astype(np.float32)
    around = [values, middles]
    for direction in (np.float32(0), np.float32(np.inf)):
        around.append(np.nextafter(middles, direction))
        around.append(np.nextafter(values, direction))
    around.append(np.array([449, 463.9, 464, 1e-30, 2.0**-10, 2.0**-11], np.float32))
    x = np.unique(np.concatenate(around))
    x = torch.from_numpy(np.concatenate([-x[::-1], x]).astype(np.float32))
    return x, x.to(torch.float8_e4m3fn).view(torch.uint8)


def cast(x):
    """Saturating cast to E4M3, as torchao and ModelOpt do it."""
    return x.clamp(-448, 448).to(torch.float8_e4m3fn)


def f8_codes(x, scale):
    return cast(x * (1 / scale)).view(torch.uint8)


def dynamic_scales(x, dims, largest):
    return (x.abs().amax(dim=dims, keepdim=True) / largest).clamp(min=1e-12)


def fake_quantize(out, generator):
    x = outliers(generator, 24, 31)
    out["fake.x"] = x
    scale, zero = 0.037, 11
    out["fake.affine"] = torch.fake_quantize_per_tensor_affine(x, scale, zero, -128, 127)
    out["fake.affine_scale"] = torch.tensor([scale])
    out["fake.affine_zero"] = torch.tensor([zero], dtype=torch.int32)
    for bits, name in ((8, "int8"), (4, "int4"), (2, "int2")):
        high = 2 ** (bits - 1) - 1
        scales = (x.abs().amax(dim=1) / high).contiguous()
        out[f"fake.{name}_scales"] = scales
        out[f"fake.{name}"] = torch.fake_quantize_per_channel_affine(
            x, scales, torch.zeros(len(scales), dtype=torch.int32), 0, -high, high
        )


def observers(out, generator):
    """Eight calls of one value [4, 6, 16]."""
    calls = [outliers(generator, 4, 6, 16) * (1 + 0.3 * k) for k in range(8)]
    out["observer.calls"] = torch.stack(calls)
    symmetric = dict(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=-127, quant_max=127)
    affine = dict(dtype=torch.quint8, qscheme=torch.per_tensor_affine, quant_min=0, quant_max=255)
    minmax, moving = MinMaxObserver(**symmetric), MovingAverageMinMaxObserver(averaging_constant=0.05, **affine)
    asymmetric, histogram = MinMaxObserver(**affine), HistogramObserver(bins=2048, **symmetric)
    for call in calls:
        for observer in (minmax, moving, asymmetric, histogram):
            observer(call)
    out["observer.minmax_scale"] = minmax.calculate_qparams()[0].float()
    for name, observer in (("affine", asymmetric), ("moving", moving)):
        scale, zero = observer.calculate_qparams()
        out[f"observer.{name}_scale"], out[f"observer.{name}_zero"] = scale.float(), zero.int()
        out[f"observer.{name}_range"] = torch.stack([observer.min_val, observer.max_val])
    out["observer.histogram_scale"] = histogram.calculate_qparams()[0].float()
    weight = outliers(generator, 12, 40)
    channels = PerChannelMinMaxObserver(
        ch_axis=0, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-127, quant_max=127
    )
    channels(weight)
    out["observer.weight"], out["observer.channel_scales"] = weight, channels.calculate_qparams()[0].float()
    x = torch.cat([c.flatten() for c in calls]).abs().double()
    out["observer.percentiles"] = torch.stack(
        [torch.quantile(x, p / 100, interpolation="higher") for p in (90.0, 99.0, 99.9)]
    ).float()
    grid = x.max() * torch.logspace(-6, 0, 600, base=2, dtype=torch.float64)
    errors = [((x / a * 127).round().clamp(max=127) * a / 127 - x).square().sum() for a in grid]
    out["observer.mse_amax"] = grid[int(torch.stack(errors).argmin())].float().reshape(1)
    out["observer.mse_error"] = torch.stack([min(errors), errors[-1]]).float()


def smooth_quant(out, generator):
    """ModelOpt's _apply_smoothquant: scale_a = (w_amax^(1-alpha) / x_amax^alpha).clamp(1e-4, 1e4), 1 where the
    input's amax is at most 2^-31; x is multiplied by it."""
    x_amax, w_amax = outliers(generator, 64).abs(), torch.rand(64, generator=generator) + 1e-3
    x_amax[5], x_amax[9], x_amax[10] = 0, 2.0**-32, 1e9
    out["smooth.x_amax"], out["smooth.w_amax"] = x_amax, w_amax
    alphas = (0.0, 0.5, 0.8, 1.0)
    rows = []
    for alpha in alphas:
        s = (w_amax.double().pow(1 - alpha) / x_amax.double().pow(alpha)).clamp(1e-4, 1e4)
        s[x_amax <= 2.0**-31] = 1
        rows.append(s.float())
    out["smooth.alphas"], out["smooth.factors"] = torch.tensor(alphas), torch.stack(rows)


def percentile_amaxes(out, generator):
    """TensorRT's PercentileCalibrator: call i belongs to step i mod steps; only the first steps * percentile
    count; "mean" divides by the number of steps (trt10) or by the calls seen (ours)."""
    steps, num_calls = 6, 21
    m = (outliers(generator, num_calls).abs() * torch.linspace(3, 1, num_calls)).float()
    out["amax.calls"] = m
    by_step = [[float(v) for v in m[k::steps]] for k in range(steps)]
    rows = []
    for percentile in (1.0, 0.5, 0.1):
        seen = by_step[: max(1, math.floor(steps * percentile))]
        rows.append([
            min(sum(s) / len(s) for s in seen),  # min-mean
            min(sum(s) / steps for s in seen),  # min-mean, trt10
            min(max(s) for s in seen),  # min-max
            sum(max(s) for s in seen) / len(seen),  # mean-max
            min(min(s) for s in seen),  # global_min
            float(m.max()),  # max
        ])
    out["amax.percentiles"] = torch.tensor([1.0, 0.5, 0.1])
    out["amax.values"] = torch.tensor(rows)


def tokens(out, generator):
    """torchao's per-token int8 (reduced range) and per-token float8, and float8 per tensor."""
    x = outliers(generator, 17, 48)
    x[3] = 0
    out["token.x"] = x
    int8 = dynamic_scales(x, 1, 127.0)
    out["token.int8_scales"], out["token.int8"] = int8.flatten(), (x * (1 / int8)).round().clamp(-128, 127).char()
    f8 = dynamic_scales(x, 1, 448.0)
    out["token.f8_scales"], out["token.f8"] = f8.flatten(), f8_codes(x, f8)
    tensor = dynamic_scales(x, (0, 1), 448.0)
    out["token.tensor_scale"], out["token.tensor"] = tensor.flatten(), f8_codes(x, tensor)


def attention(out, generator):
    """[2, 9 queries, 13 keys], 2 heads of 16. FP8: codes per tensor; weights exp(s - max) times 448 as E4M3, the sum
    of the unrounded ones divides. int8-fp8: keys without their mean over tokens, int8 a head's part of a token."""
    b, tq, tk, heads, d = 2, 9, 13, 2, 16
    q, k, v = (torch.randn(b, t, heads * d, generator=generator) for t in (tq, tk, tk))
    k = k + 4 * torch.randn(1, 1, heads * d, generator=generator)
    out["attention.q"], out["attention.k"], out["attention.v"] = q, k, v

    def split(x):
        return x.view(b, x.shape[1], heads, d).transpose(1, 2)

    def attend(q, k, v):  # in double
        scores = split(q) @ split(k).transpose(2, 3) / math.sqrt(d)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        codes = cast((weights.float() * 448)).double()
        y = codes @ split(v) / (448 * weights.sum(-1, keepdim=True))
        return y.transpose(1, 2).reshape(b, tq, heads * d).float()

    def f8(x):
        scale = dynamic_scales(x, (0, 1, 2), 448.0)
        return f8_codes(x, scale).view(torch.float8_e4m3fn).double() * scale.double()

    def int8(x):
        parts = x.view(b, x.shape[1], heads, d)
        scale = dynamic_scales(parts, 3, 127.0)
        codes = (parts * (1 / scale)).round().clamp(-128, 127).double() * scale.double()
        return codes.view(b, x.shape[1], heads * d)

    centered = (k.double() - k.double().mean(1, keepdim=True)).float()
    out["attention.fp8"] = attend(f8(q), f8(k), f8(v))
    out["attention.int8_fp8"] = attend(int8(q), int8(centered), f8(v))


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(20)
    out = {}
    out["f8.x"], out["f8.codes"] = f8_cases()
    for make in (fake_quantize, observers, smooth_quant, percentile_amaxes, tokens, attention):
        make(out, generator)
    folder = common.GOLDEN / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in out.items()}, folder / "quantization.safetensors")
    common.update_manifest(FOLDER, "quantization.py")


if __name__ == "__main__":
    main()
