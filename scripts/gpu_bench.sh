#!/usr/bin/env bash
# Tests and measures a CUDA build on a GPU machine that may have no network: conformance of every kernel, the embedded
# model's picture against the CPU's, SDXL workloads on random full-size weights, and diffusers beside them.
# Usage: scripts/gpu_bench.sh BUILD_FOLDER RESULTS_FOLDER [--no-peers]
# BUILD_FOLDER holds bin/halftone and bin/cuda_conformance_test (cmake --preset cuda), or the same two as .xz files,
# with the shared libraries that the machine lacks beside them. Results: rows.jsonl, conformance.log, pictures.
set -uo pipefail
if [ $# -lt 2 ]; then
  sed -n 's/^# //p' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
mkdir -p "$2"
results=$(cd "$2" && pwd)
scratch=$(mktemp -d "${GPU_BENCH_SCRATCH:-/dev/shm}/halftone.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# Programs and libraries in one folder.
cp "$build"/bin/* "$build"/*.so* "$scratch" 2>/dev/null
for file in "$build"/*.xz; do
  [ -e "$file" ] && xz -dc "$file" > "$scratch/$(basename "${file%.xz}")"
done
chmod +x "$scratch"/* 2>/dev/null
# cuDNN and cuBLASLt: PyTorch's, where python3 has them, else the system's.
packages=$(python3 -c 'import nvidia.cudnn, os; print(os.path.dirname(list(nvidia.cudnn.__path__)[0]))' 2>/dev/null || true)
export LD_LIBRARY_PATH="$scratch:${packages:+$packages/cudnn/lib:$packages/cu13/lib:}/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
halftone=$scratch/halftone
failed=0
: > "$results/rows.jsonl"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu --format=csv | tee "$results/device.txt"

# A process a test: an error on the device ends only that one.
tests=$("$scratch/cuda_conformance_test" --gtest_list_tests | awk '/^ /{print "*" $1}')
echo "$tests" | xargs -P 4 -I{} timeout 200 "$scratch/cuda_conformance_test" --gtest_filter={} \
  > "$results/conformance.log" 2>&1 || failed=1
echo "conformance: $(grep -c '^\[       OK' "$results/conformance.log") passed," \
  "$(grep -c '^\[  FAILED  \].*ms)' "$results/conformance.log") failed," \
  "$(grep -c '^\[  SKIPPED \].*ms)' "$results/conformance.log") skipped"

# The embedded model: the GPU's picture against the CPU's in fp32.
picture=(generate "a red heart" -m "$root/models/emoji-xl" --steps 20 --cfg-scale 5 -s 7)
for precision in fp16 bf16; do
  "$halftone" "${picture[@]}" --device cuda:0 --precision "$precision" -o "$results/heart_$precision.png" > /dev/null || failed=1
done
if "$halftone" "${picture[@]}" --device cpu --precision fp32 -o "$results/heart_cpu.png" > /dev/null; then
  python3 "$root/bench/gpu_rows.py" psnr "$results"/heart_cpu.png "$results"/heart_fp16.png "$results"/heart_bf16.png ||
    failed=1
fi

# SDXL in its full size, random weights.
"$halftone" models random --family sdxl --out "$scratch/sdxl" > /dev/null || exit 1
bench() {
  local name=$1
  shift
  local command=("$halftone" bench e2e "a red apple" -m "$scratch/sdxl" --device cuda:0 --precision fp16
    --cache-dir "$scratch/cache" --json="$results/$name.json" "$@")
  timeout 500 "${command[@]}" > "$results/$name.log" 2>&1 || { failed=1; tail -3 "$results/$name.log"; return; }
  python3 "$root/bench/gpu_rows.py" rows "$results/$name.json" "$results/device.txt" "halftone bench e2e ${*}" \
    | tee -a "$results/rows.jsonl"
}
bench sdxl_1024 --size 1024x1024 --steps 30 --cfg-scale 5 --warmup 2 --iterations 10 --no-profile
bench sdxl_1024_b8 --size 1024x1024 --steps 4 --cfg-scale 5 --batch-size 8 --warmup 1 --iterations 3 --no-profile
bench turbo_512 --size 512x512 --steps 1 --cfg-scale 1 --warmup 3 --iterations 20 --no-profile
bench sdxl_1024_profile --size 1024x1024 --steps 4 --cfg-scale 5 --warmup 1 --iterations 3

if [ "${3:-}" != --no-peers ]; then
  python3 "$root/bench/peers/torch_cuda.py" sdxl:2:graph turbo:1:graph vae:1:graph clip:2:graph |
    tee -a "$results/rows.jsonl"
fi
exit $failed
