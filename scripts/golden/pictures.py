"""Pictures by a formula in integers, which src/metrics/pattern.h makes too: tests need not store them."""

import numpy as np


def pattern(width, height, noise, seed):
    """uint8[height, width, 3]: a folded ramp with blocks, plus noise in [-noise, noise]."""
    out = np.zeros((height, width, 3), np.uint8)
    state = seed
    for y in range(height):
        for x in range(width):
            for c in range(3):
                ramp = (3 * x + 2 * y + 80 * c) % 512
                value = min(ramp, 511 - ramp)
                if (x // 16 + y // 24 + c) % 3 == 0:
                    value = 255 - value // 2
                state = (state * 1664525 + 1013904223) % 2**32
                if noise:
                    value += (state >> 16) % (2 * noise + 1) - noise
                out[y, x, c] = min(max(value, 0), 255)
    return out
