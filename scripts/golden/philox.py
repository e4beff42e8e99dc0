"""numpy port of torch.randn on a CUDA device (Philox4x32-10, curand_normal4, torch's thread mapping).

Command: python scripts/golden/philox.py    (known answers; then tests/golden/rng/cuda_philox.json if present)

torch launches blocks of 256 threads, at most multiprocessors * (threads per multiprocessor / 256) of them.
Thread i seeds Philox with (key = seed, counter = (offset / 4, subsequence = i)); each trip of its loop draws
four 32-bit words, makes four normals and writes them at i + trip * 4 * T, and one, two, three times T
further, T being the number of threads. Sizes up to 256 * blocks therefore use one normal a thread. A call advances the
generator's offset by 4 for every trip.

The words are exact. The normals differ from the device's in their last bits: cuRAND computes
sin and cos with the device's fast approximation.
"""

import base64
import json

import numpy as np
from common import GOLDEN

U = np.uint32
W0, W1 = 0x9E3779B9, 0xBB67AE85
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
LOW = np.uint64(0xFFFFFFFF)
BLOCK = 256
H200 = {"multiprocessors": 132, "threads_per_multiprocessor": 2048}


def philox4x32(seed, block, subsequence):
    """The four words for counter (block, subsequence[i]); returns uint32 [4, n]."""
    sub = np.asarray(subsequence, np.uint64)
    block = np.uint64(block)
    c0 = np.full(sub.shape, block & LOW, np.uint64)
    c1 = np.full(sub.shape, block >> np.uint64(32), np.uint64)
    c2, c3 = sub & LOW, sub >> np.uint64(32)
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & LOW,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & LOW,
        )
        k0, k1 = (k0 + W0) & 0xFFFFFFFF, (k1 + W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(U)


def toward_zero(x):
    """float64 to float32, rounding toward zero."""
    y = x.astype(np.float32)
    return np.where(np.abs(y.astype(np.float64)) > np.abs(x), np.nextafter(y, np.float32(0)), y)


def box_muller(x, y):
    """cuRAND's pair: (s * sin v, s * cos v) in float32.

    As compiled for the device: both scalings are fused multiply-adds, and the fast sine and cosine first turn
    v into revolutions by a product that is rounded toward zero. What is left is their table's own error.
    """
    f, d = np.float32, np.float64
    inv, inv_2pi = f(2.3283064e-10), f(2.3283064e-10 * 6.2831855)
    u = (x.astype(f).astype(d) * inv + inv / f(2)).astype(f)
    v = (y.astype(f).astype(d) * inv_2pi + inv_2pi / f(2)).astype(f)
    turns = toward_zero(v.astype(d) * d(f(0.15915494))).astype(d)
    s = np.sqrt(f(-2) * np.log(u.astype(d)).astype(f))
    return np.sin(2 * np.pi * turns).astype(f) * s, np.cos(2 * np.pi * turns).astype(f) * s


def randn(n, seed, offset=0, multiprocessors=132, threads_per_multiprocessor=2048):
    """torch.randn(n, device='cuda') in float32; returns (values, generator offset after the call)."""
    blocks = min((n + BLOCK - 1) // BLOCK, multiprocessors * (threads_per_multiprocessor // BLOCK))
    threads = blocks * BLOCK
    trips = (n - 1) // (threads * 4) + 1
    out = np.empty(trips * 4 * threads, np.float32)
    for trip in range(trips):
        words = philox4x32(seed, offset // 4 + trip, np.arange(threads))
        four = [*box_muller(words[0], words[1]), *box_muller(words[2], words[3])]
        out[trip * 4 * threads : (trip + 1) * 4 * threads] = np.concatenate(four)
    return out[:n], offset + 4 * trips


def check_known_answers():
    """Random123's published vectors for philox4x32-10."""
    zero = philox4x32(0, 0, [0])[:, 0]
    assert [hex(v) for v in zero] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"], zero
    ones = philox4x32(2**64 - 1, 2**64 - 1, np.array([2**64 - 1], np.uint64))[:, 0]
    assert [hex(v) for v in ones] == ["0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd"], ones
    print("known answers: equal")


def decode(text):
    return np.frombuffer(base64.b64decode(text), np.float32)


def check_device(path):
    """Compares with recorded device draws: position by position, in units of the larger of 1 and the value."""
    record = json.loads(path.read_text())
    shape = {
        "multiprocessors": record["multiprocessors"],
        "threads_per_multiprocessor": record["max_threads_per_multiprocessor"],
    }
    worst, exact, total = 0.0, 0, 0
    for case in record["cases"]:
        ours, offset = randn(case["count"], case["seed"], **shape)
        following = np.array(case["next_5"], np.float32)
        after, _ = randn(following.size, case["seed"], offset, **shape)
        for got, want in (
            (ours[: len(decode(case["first"]))], decode(case["first"])),
            (ours[-len(decode(case["last"])) :], decode(case["last"])),
            (after, following),
        ):
            error = np.abs(got.astype(np.float64) - want) / np.maximum(1, np.abs(want))
            worst, exact, total = max(worst, float(error.max())), exact + int((got == want).sum()), total + want.size
    print(
        f"{len(record['cases'])} cases, {total} values: {exact / total:.1%} bit-equal, largest difference {worst:.2e}"
    )


def main():
    check_known_answers()
    recorded = GOLDEN / "rng" / "cuda_philox.json"
    if recorded.exists():
        check_device(recorded)


if __name__ == "__main__":
    main()
