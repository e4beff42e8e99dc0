#!/usr/bin/env bash
# Packs what scripts/amx_bench.sh takes to a machine without a network, in parts that can travel one after the other.
# Usage: scripts/amx_pack.sh BUILD PACK [PYTHON]
# BUILD: a CPU build with halftone, conformance_test and bench_kernels (cmake --preset release -DHALFTONE_CUDA=OFF).
# PACK: the folder to write: programs.tar.xz (without symbols), libraries.tar.xz (what a fresh Ubuntu 24.04 lacks; oneDNN
# is most of it) and diffusers.tar.xz (the modules that the peer imports, out of PYTHON's; nothing without PYTHON).
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n 's/^# //p' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
mkdir -p "$2"
pack=$(cd "$2" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

mkdir "$stage/bin" "$stage/lib"
for program in halftone conformance_test bench_kernels; do
  strip -o "$stage/bin/$program" "$build/bin/$program"
done
ldd "$stage"/bin/* | awk '$3 ~ "^/" {print $3}' | sort -u |
  grep -E '/lib(dnnl|fmt|png16|utf8proc|OpenCL|gomp|gtest|gtest_main|benchmark)\.so' |
  while read -r library; do cp -L "$library" "$stage/lib/$(basename "$library")"; done
strip --strip-unneeded "$stage"/lib/* 2> /dev/null || true
# Programs share most of their code: one stream, in a window that holds all of it.
pack_folder() {
  tar -C "$stage" --sort=name --owner=0 --group=0 --mtime=@0 -cf - "$1" |
    xz -T1 --x86 --lzma2=preset=9e,dict=64MiB > "$2"
}
pack_folder bin "$pack/programs.tar.xz"
pack_folder lib "$pack/libraries.tar.xz"
if [ $# -ge 3 ]; then
  "$3" "$root/bench/peers/pack_diffusers.py" "$pack/diffusers.tar.xz"
fi
ls -l "$pack"
