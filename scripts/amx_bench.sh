#!/usr/bin/env bash
# Tests and measures the CPU engine on a machine with AMX and no network, in at most 9 minutes: conformance of every
# CPU kernel, rates of kernels beside the measured peak, SDXL-Turbo's true shapes (random weights) in bf16 and int8 on two
# cores, their memory, and diffusers in bf16 on the same two cores.
# Usage: scripts/amx_bench.sh PACK RESULTS [--trial]
# PACK: what scripts/amx_pack.sh wrote; or a build folder. RESULTS: rows.jsonl, kernels.jsonl, conformance.log, one
# .json and .log a run. python3 needs torch and transformers for the peer. --trial: the tiny checkpoint in fp32 instead, to
# see that everything runs where there is no AMX.
# AMX_BENCH_SCRATCH: a folder with 8 GB for the random model (default /tmp).
set -uo pipefail
if [ $# -lt 2 ]; then
  sed -n 's/^# //p' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
pack=$(cd "$1" && pwd)
mkdir -p "$2"
results=$(cd "$2" && pwd)
trial=${3:-}
scratch=$(mktemp -d "${AMX_BENCH_SCRATCH:-/tmp}/halftone.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
deadline=$((SECONDS + 525))
failed=0
: > "$results/rows.jsonl"

# limited SECONDS COMMAND...: ends it after so long, or at the deadline of the whole.
limited() {
  local left=$((deadline - SECONDS)) seconds=$1
  shift
  [ "$left" -lt "$seconds" ] && seconds=$left
  if [ "$seconds" -le 0 ]; then
    echo "no time left for: $*" | tee -a "$results/skipped.txt" >&2
    return 124
  fi
  timeout "$seconds" "$@"
}
note() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

if [ -e "$pack/programs.tar.xz" ]; then
  for part in programs libraries; do tar -C "$scratch" -xJf "$pack/$part.tar.xz" || exit 1; done
else
  ln -s "$pack/bin" "$scratch/bin"
fi
[ -e "$pack/diffusers.tar.xz" ] && mkdir "$scratch/python" && tar -C "$scratch/python" -xJf "$pack/diffusers.tar.xz"
# One hardware thread of each of the first two cores.
cores=$(lscpu -p=CPU,CORE | awk -F, '!/^#/ && !seen[$2]++ {print $1}' | head -2 | paste -sd,)
with_libraries=(env "LD_LIBRARY_PATH=$scratch/lib" taskset -c "$cores")
halftone=("${with_libraries[@]}" "$scratch/bin/halftone")
lscpu > "$results/lscpu.txt"
device="$(sed -n 's/^Model name: *//p' "$results/lscpu.txt"), taskset -c $cores"
grep -qw amx_int8 "$results/lscpu.txt" && device+=", AMX"
printf '%s\n%s\n' "$("${halftone[@]}" --version | paste -sd' ')" "$device" | tee "$results/device.txt"

# In shards, each a process: an error ends only its shard, and a test that is missing is counted as not run.
tests=$("${with_libraries[@]}" "$scratch/bin/conformance_test" --gtest_list_tests | grep -c '^ ')
seq 0 15 | limited 150 xargs -P 2 -I{} env GTEST_TOTAL_SHARDS=16 GTEST_SHARD_INDEX={} "${with_libraries[@]}" \
  "$scratch/bin/conformance_test" > "$results/conformance.log" 2>&1 || failed=1
note "conformance: $(grep -c '^\[       OK' "$results/conformance.log") passed," \
  "$(grep -c '^\[  FAILED  \].*ms)' "$results/conformance.log") failed," \
  "$(grep -c '^\[  SKIPPED \].*ms)' "$results/conformance.log") skipped, of $tests"

kernels=(--threads 2 --repeats 5 --all --json "$results/kernels.jsonl")
[ "$trial" = --trial ] && kernels+=(--filter "linear 1x")
limited 100 "${with_libraries[@]}" "$scratch/bin/bench_kernels" "${kernels[@]}" > "$results/kernels.txt" 2>&1 || failed=1
note "kernels: $(grep -c . "$results/kernels.jsonl") rows; $(grep -i peak "$results/kernels.txt" | paste -sd';')"

if [ "$trial" = --trial ]; then
  model=$root/tests/golden/tiny-sdxl
  size=64x64
  precision=fp32
else
  model=$scratch/turbo
  size=512x512
  precision=bf16
  limited 90 "${halftone[@]}" models random --family sdxl-turbo --out "$model" > "$results/random.log" 2>&1 || exit 1
  note "random model written"
fi
image=(-m "$model" --device cpu --size "$size" --steps 1 --cfg-scale 0 -s 1 -t 2 --cache-dir "$scratch/cache")
int8=(--precision "$precision" --scheme int8 --quantization-level 3 --ranges "$results/calibration.safetensors")
limited 90 "${halftone[@]}" calibrate "a red apple" "a blue bird on a branch" "${image[@]}" --calib-size 2 \
  --precision "$precision" --vae-precision int8 --ranges "$results/calibration.safetensors" --json \
  > "$results/calibrate.json" 2> "$results/calibrate.log" || failed=1
note "calibrated"

bench() {
  local name=$1
  shift
  local command=(bench e2e "a red apple" "${image[@]}" "$@")
  if ! limited 100 "${halftone[@]}" "${command[@]}" --json="$results/$name.json" > "$results/$name.log" 2>&1; then
    failed=1
    tail -3 "$results/$name.log"
    return
  fi
  python3 "$root/bench/gpu_rows.py" rows "$results/$name.json" "$results/device.txt" "halftone bench e2e $*" \
    "${name%%.*}" |
    tee -a "$results/rows.jsonl"
}
# Times, then where they go. The two precisions run in turn, so that a change of the clock meets both.
for run in 1 2; do
  bench "$precision.$run" --precision "$precision" --warmup 1 --iterations 3 --no-profile
  bench "int8.$run" "${int8[@]}" --vae-precision int8 --warmup 1 --iterations 3 --no-profile
  note "round $run of $precision and int8"
done
bench "$precision.profile" --precision "$precision" --warmup 1 --iterations 1
bench int8.profile "${int8[@]}" --vae-precision int8 --warmup 1 --iterations 1
bench int8.plain_vae "${int8[@]}" --warmup 1 --iterations 3 --no-profile
note "profiles"
# The memory of each component is in the report of a picture.
picture() {
  local name=$1
  shift
  limited 60 "${halftone[@]}" generate "a red apple" "${image[@]}" "$@" -o "$results/$name.png" \
    --json="$results/$name.image.json" > "$results/$name.image.log" 2>&1 || failed=1
}
picture "$precision" --precision "$precision"
picture int8 "${int8[@]}" --vae-precision int8

peer=(--precision bf16 --repeats 3)
[ "$trial" = --trial ] && peer=(--precision fp32 --repeats 1 --model "$model" --size 64)
PYTHONPATH="$scratch/python:${PYTHONPATH:-}" limited 180 taskset -c "$cores" \
  python3 "$root/bench/peers/diffusers_cpu.py" "${peer[@]}" --threads 2 2> "$results/peer.log" |
  tee -a "$results/rows.jsonl" || failed=1
note "diffusers"
python3 "$root/bench/cpu_summary.py" "$results" | tee "$results/summary.txt" || failed=1
exit $failed
