"""numpy port of torch's vectorised CPU randn for float32 (AVX2 and AVX-512 builds, 16 elements and more).

Command: python scripts/golden/torch_cpu_normal.py     (checks the port against torch, bit for bit)

torch fills the tensor with uniforms (24 low bits of each MT19937 draw, times 2^-24), then turns blocks
of 16 into normals: element j and j + 8 form a Box-Muller pair. When the size is no multiple of 16, the
last 16 elements are drawn again (16 fresh uniforms) and transformed as one more block. log, sin and cos are the
Cephes single-precision polynomials of avx_mathfun.h, whose multiply-add pairs the compiler fuses; the
`fma` calls below mark exactly those.
"""

import numpy as np

F = np.float32


def fma(a, b, c):
    """a * b + c rounded once (float64 is exact for the product; its sum is right except in rare ties)."""
    return (a.astype(np.float64) * np.float64(b) + np.asarray(c, np.float64)).astype(F)


def log_ps(x):
    x = np.maximum(x, np.array([0x00800000], np.uint32).view(F)[0])
    bits = x.view(np.uint32)
    e = (bits >> 23).astype(np.int32) - 0x7F
    x = ((bits & np.uint32(0x807FFFFF)) | np.uint32(0x3F000000)).view(F)
    e = e.astype(F) + F(1)
    small = x < F(0.707106781186547524)
    tmp = np.where(small, x, F(0))
    x = x - F(1)
    e = e - small.astype(F)
    x = x + tmp
    z = x * x
    y = np.full_like(x, F(7.0376836292e-2))
    for p in (
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ):
        y = fma(y, x, F(p))
    y = y * x
    y = fma(y, z, e * F(-2.12194440e-4))  # y * z is the fused product here
    y = fma(-z, F(0.5), y)
    x = x + y
    return fma(e, F(0.693359375), x)


def sincos_ps(x):
    sign_sin = np.signbit(x)
    x = np.abs(x)
    j = (x * F(1.27323954473516)).astype(np.int32)
    j = (j + 1) & ~1
    y = j.astype(F)
    swap = (j & 4) != 0
    poly = (j & 2) == 0
    sign_cos = (~(j - 2) & 4) != 0
    for dp in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8):
        x = fma(y, F(dp), x)
    sign_sin = sign_sin ^ swap
    z = x * x
    c = np.full_like(x, F(2.443315711809948e-5))
    c = fma(c, z, F(-1.388731625493765e-3))
    c = fma(c, z, F(4.166664568298827e-2))
    c = c * z
    c = fma(c, z, -(z * F(0.5)))
    c = c + F(1)
    s = np.full_like(x, F(-1.9515295891e-4))
    s = fma(s, z, F(8.3321608736e-3))
    s = fma(s, z, F(-1.6666654611e-1))
    s = s * z
    s = fma(s, x, x)
    sin = np.where(poly, s, c)
    cos = np.where(poly, c, s)
    return np.where(sign_sin, -sin, sin), np.where(sign_cos, -cos, cos)


def normal_block(u):
    """u: [..., 16] uniforms -> normals."""
    u1 = F(1) - u[..., :8]
    u2 = u[..., 8:]
    radius = np.sqrt(F(-2) * log_ps(u1))
    sin, cos = sincos_ps(F(2.0 * np.pi) * u2)
    return np.concatenate([radius * cos, radius * sin], axis=-1).astype(F)


def uniforms(mt, n):
    return ((mt.random_raw(n) & 0xFFFFFF).astype(F) * F(2.0**-24)).astype(F)


def randn(mt, n):
    """n >= 16 normals from an np.random.MT19937 that was seeded with _legacy_seeding(seed & 0xffffffff)."""
    u = uniforms(mt, n)
    out = np.empty(n, F)
    whole = n // 16 * 16
    out[:whole] = normal_block(u[:whole].reshape(-1, 16)).reshape(-1)
    if n % 16:
        out[n - 16 :] = normal_block(uniforms(mt, 16)[None])[0]
    return out


def main():
    import torch

    for seed in (0, 42, 123456789):
        for n in (16, 17, 31, 4096, 1 << 18):
            mt = np.random.MT19937()
            mt._legacy_seeding(seed)
            want = torch.randn(n, generator=torch.Generator().manual_seed(seed)).numpy()
            got = randn(mt, n)
            print(f"seed {seed} n {n}: {int((want.view(np.uint32) != got.view(np.uint32)).sum())} differ")


if __name__ == "__main__":
    main()
