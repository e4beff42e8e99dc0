"""Records torch's CPU generator (MT19937) and its randn paths.

Command: python scripts/golden/rng.py     (writes tests/golden/rng/torch_cpu.json and torch_cpu.safetensors)

Run it on a machine with AVX2 or AVX-512: torch's fallback build uses libm and differs in last bits.
"""

import numpy as np
import torch
from common import GOLDEN, f32_list, update_manifest, write_rows
from safetensors.numpy import save_file

SEEDS = (0, 1, 42, 123456789, 2**40 + 5)
SMALL = (1, 7, 15, 16, 17, 31, 100)
LARGE = (4096, 16384)
SEQUENCES = ((7, 7), (7, 16, 3, 17, 1), (1, 1, 1), (15, 15), (31, 16, 31), (100, 1, 1, 100), (3, 64, 2))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def raw_draws(seed, n):
    mt = np.random.MT19937()
    mt._legacy_seeding(seed & 0xFFFFFFFF)
    draws = mt.random_raw(n)
    uniform = torch.rand(n, generator=generator(seed)).double().numpy() * 2**24
    assert np.array_equal(uniform.astype(np.uint64), draws & 0xFFFFFF), "torch is not this MT19937"
    return [int(v) for v in draws]


def main():
    torch.set_num_threads(1)
    capability = torch.backends.cpu.get_cpu_capability()
    assert capability in ("AVX2", "AVX512"), capability
    rows, tensors = [], {}
    for seed in SEEDS:
        rows.append({"kind": "raw32", "seed": seed, "skip": 1292, "values": raw_draws(seed, 1300)[-8:]})
        rows.append({"kind": "raw32", "seed": seed, "skip": 0, "values": raw_draws(seed, 8)})
        rows.append({"kind": "rand", "seed": seed, "values": f32_list(torch.rand(17, generator=generator(seed)))})
        for n in SMALL:
            rows.append({"kind": "randn", "seed": seed, "values": f32_list(torch.randn(n, generator=generator(seed)))})
        for sizes in SEQUENCES:
            g = generator(seed)
            values = [f32_list(torch.randn(n, generator=g)) for n in sizes]
            rows.append({"kind": "randn_sequence", "seed": seed, "sizes": list(sizes), "values": values})
        for dtype, name in ((torch.float16, "f16"), (torch.bfloat16, "bf16")):
            for n in (7, 31):
                x = torch.randn(n, generator=generator(seed), dtype=dtype)
                rows.append({"kind": f"randn_{name}", "seed": seed, "values": f32_list(x.float())})
        for n in LARGE:
            tensors[f"randn.seed{seed}.n{n}"] = torch.randn(n, generator=generator(seed)).numpy()
    out = GOLDEN / "rng"
    write_rows(out / "torch_cpu.json", {"capability": capability}, "rows", rows)
    save_file(tensors, out / "torch_cpu.safetensors")
    update_manifest("rng", "rng.py")


if __name__ == "__main__":
    main()
