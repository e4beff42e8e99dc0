"""Shared helpers of the golden-data scripts: repository paths, compact JSON, the manifest.

Every script in this folder is run as `python scripts/golden/NAME.py` from the repository root and
writes below tests/golden/. The manifest records which script made a folder and with what versions.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import platform

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "pillow")


def f32(value):
    """The float32 nearest to value as a Python float whose JSON text is the shortest that round-trips."""
    return float(str(np.float32(value)))


def f32_list(values):
    """Flattens a tensor, array or sequence to a list of f32()."""
    return [f32(v) for v in np.asarray(values, dtype=np.float64).reshape(-1)]


def write_rows(path, head, key, rows):
    """Writes {**head, key: rows} as JSON with one row a line, so diffs stay readable."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def dump(v):
        return json.dumps(v, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write("{\n")
        for name, value in head.items():
            f.write(f"{json.dumps(name)}:{dump(value)},\n")
        f.write(f"{json.dumps(key)}:[\n" + ",\n".join(dump(r) for r in rows) + "\n]}\n")


def versions():
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def update_manifest(folder, script, extra=None):
    """Records script, versions and the SHA-256 of every file of tests/golden/<folder> in its manifest.json."""
    base = GOLDEN / folder
    files = {
        str(p.relative_to(base)): {"bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
        for p in sorted(base.rglob("*"))
        if p.is_file() and p.name != "manifest.json"
    }
    body = {"command": f"python scripts/golden/{script}", "versions": versions(), **(extra or {}), "files": files}
    (base / "manifest.json").write_text(json.dumps(body, indent=1, sort_keys=False) + "\n")
