"""A model of Hopper's sums of E4M3 products: how far they are from exact ones.

An instruction adds 32 products to the sum so far. All 33 are aligned to the one with the largest
exponent and keep BITS bits behind the leading one of that; what is below is cut off towards zero,
of the result too. Operands are uniform in [-1, 1] and scales in [0.5, 1], as in the tests of all
tiles (tests/conformance/tile_problems.cpp), rounding of the result to 16 bits left out.

usage: e4m3_sums.py [--results N] [--draws N] [--bits BITS ...]
"""
import argparse

import numpy as np

PRODUCTS = 32  # of an instruction


def to_e4m3(x):
    exponent = np.maximum(np.floor(np.log2(np.maximum(np.abs(x), 1e-30))), -6)
    return np.round(x / 2.0 ** (exponent - 3)) * 2.0 ** (exponent - 3)


def cut_off(x, largest, bits):
    unit = 2.0 ** (np.floor(np.log2(np.maximum(largest, 1e-30))) - bits)
    return np.trunc(x / unit) * unit


def sums(products, bits, promoted):
    """Of the rows of `products`, moved to fp32 after every `promoted` terms (0: never)."""
    total = np.zeros(len(products))
    part = np.zeros(len(products))
    for first in range(0, products.shape[1], PRODUCTS):
        terms = np.concatenate([part[:, None], products[:, first : first + PRODUCTS]], axis=1)
        part = cut_off(terms, np.abs(terms).max(axis=1, keepdims=True), bits).sum(axis=1)
        part = cut_off(part, np.abs(part), bits)
        if promoted and (first + PRODUCTS) % promoted == 0:
            total += part
            part[:] = 0
    return total + part


def errors(terms, bits, promoted, results, seed):
    """The relative L2 error, and the largest error as a part of the largest result."""
    random = np.random.default_rng(seed)
    x, w = (to_e4m3(random.uniform(-1, 1, (results, terms))) for _ in range(2))
    scale = random.uniform(0.5, 1, results) * random.uniform(0.5, 1, results)
    exact = (x * w).sum(axis=1)
    error = sums(x * w, bits, promoted) - exact
    return (np.linalg.norm(error) / np.linalg.norm(exact),
            np.abs(error * scale).max() / np.abs(exact * scale).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, default=13728)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--bits", type=int, nargs="+", default=[13, 14])
    args = parser.parse_args()
    for terms, promoted in ((2880, 0), (2880, 1024), (5760, 0)):
        kind = f"promoted every {promoted}" if promoted else "not promoted"
        for bits in args.bits:
            draws = [errors(terms, bits, promoted, args.results, seed)
                     for seed in range(args.draws)]
            l2, worst = zip(*draws)
            print(f"{terms} terms, {kind}, {bits} bits: "
                  f"relative L2 {min(l2):.2e} to {max(l2):.2e}, worst of {args.results} "
                  f"{min(worst):.2e} to {max(worst):.2e} of the largest", flush=True)


if __name__ == "__main__":
    main()
