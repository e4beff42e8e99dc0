"""Writes the part of the installed diffusers that bench/peers/diffusers_cpu.py imports, for a machine without it.

Command: python bench/peers/pack_diffusers.py OUT.tar.xz     (instead of a wheel of 6 MB)

Runs the peer on the tiny checkpoint of tests/golden and packs every module of diffusers that it loaded, and whole
folders of which a machine with other optional packages loads other modules; without comments and without the docstrings
of what no decorator reads. Unpack it in a folder of PYTHONPATH.
"""

import ast
import contextlib
import io
import os
import runpy
import sys
import tarfile

WHOLE = ["hooks", "loaders", "quantizers", "schedulers", "utils"]


def is_text(statement):
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)


def shortened(source):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and is_text(body[0]) and not getattr(node, "decorator_list", None):
            node.body = body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return ast.unparse(tree)


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    out = sys.argv[1]
    peer = os.path.join(root, "bench", "peers", "diffusers_cpu.py")
    sys.argv = [peer, "--model", os.path.join(root, "tests", "golden", "tiny-sdxl"), "--size", "64", "--repeats", "1"]
    sys.argv += ["--warmup", "0", "--precision", "fp32"]
    with contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path(peer, run_name="__main__")
        space = runpy.run_path(peer, run_name="peer")  # what random weights import besides
        __import__("diffusers", fromlist=["StableDiffusionXLPipeline"]).StableDiffusionXLPipeline  # noqa: B018
        assert "random_pipeline" in space
    import diffusers

    base = os.path.dirname(os.path.dirname(diffusers.__file__))
    files = {
        module.__file__
        for name, module in sys.modules.items()
        if name.split(".")[0] == "diffusers" and getattr(module, "__file__", None)
    }
    for folder in WHOLE:
        for path, _, names in os.walk(os.path.join(base, "diffusers", folder)):
            files |= {os.path.join(path, name) for name in names if name.endswith(".py")}
    with tarfile.open(out, "w:xz", preset=9) as tar:
        for path in sorted(files):
            data = shortened(open(path, encoding="utf-8").read()).encode()
            entry = tarfile.TarInfo(os.path.relpath(path, base))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    print(f"{len(files)} modules of diffusers {diffusers.__version__}: {os.path.getsize(out)} bytes")


if __name__ == "__main__":
    main()
