#!/usr/bin/env bash
# Tests and measures a build on a machine that may have no network, in stages of at most nine minutes: conformance of
# every kernel, compute-sanitizer, the embedded model's pictures against the CPU's, SDXL workloads on random full-size
# weights in fp16, int8 and fp8, and diffusers beside them.
# Usage: scripts/gpu_bench.sh [--device DEVICE] [--tiny] BUILD_FOLDER RESULTS_FOLDER [STAGE...]
#        scripts/gpu_bench.sh --list
# BUILD_FOLDER holds bin/halftone and bin/cuda_conformance_test (cmake --preset cuda), or the same two as .xz files,
# with the shared libraries that the machine lacks beside them. --tiny draws small pictures with a small model: with
# "--device cpu" it tries the script itself. Each stage writes rows.STAGE.jsonl and logs; without STAGE all run.
# PYTHON (default python3) has numpy, PIL and, for the peers, torch and diffusers.
# GPU_BENCH_SCRATCH (default /dev/shm) takes the random weights, 7 GB, and keeps them and the tuning for later stages.
set -uo pipefail

python=${PYTHON:-python3}
stages=(conformance memcheck racecheck pictures kernels fp16 int8 fp8 int8_static subpixel fusions turbo batched
  lowvram peers_eager peers_graph peers_compile)
device=cuda:0
tiny=
while [ $# -gt 0 ]; do
  case $1 in
    --list) printf '%s\n' "${stages[@]}"; exit 0 ;;
    --device) device=$2; shift 2 ;;
    --tiny) tiny=1; shift ;;
    *) break ;;
  esac
done
if [ $# -lt 2 ]; then
  sed -n 's/^# //p' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
mkdir -p "$2"
results=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- "${stages[@]}"
scratch=${GPU_BENCH_SCRATCH:-/dev/shm}/halftone-bench${tiny:+-tiny}
mkdir -p "$scratch"
failed=0

# Programs and libraries in one folder.
cp "$build"/bin/halftone "$build"/bin/cuda_conformance_test "$build"/*.so* "$scratch" 2>/dev/null
for file in "$build"/*.xz; do
  [ -e "$file" ] && xz -dc "$file" > "$scratch/$(basename "${file%.xz}")"
done
chmod +x "$scratch"/halftone "$scratch"/cuda_conformance_test 2>/dev/null
# cuDNN and cuBLASLt: PyTorch's, where python3 has them, else the system's.
packages=$("$python" -c 'import nvidia.cudnn, os; print(os.path.dirname(list(nvidia.cudnn.__path__)[0]))' 2>/dev/null || true)
export LD_LIBRARY_PATH="$scratch:${packages:+$packages/cudnn/lib:$packages/cu13/lib:}/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
halftone=$scratch/halftone
tests=$scratch/cuda_conformance_test
if [ "$device" = cpu ]; then
  printf 'name\ncpu\n' > "$results/device.txt"
else
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu --format=csv | tee "$results/device.txt"
fi

# --- what the stages share

large=1024x1024 small=512x512 steps=30
if [ -n "$tiny" ]; then
  large=64x64 small=64x64 steps=2
fi
model() {
  local folder=$scratch/sdxl
  [ -e "$folder/model_index.json" ] ||
    "$halftone" models random --family sdxl ${tiny:+--tiny} --out "$folder" > /dev/null || return 1
  echo "$folder"
}

# A short record of the random model, which has no prompts of its own: speed does not depend on its values.
calibrated() {
  local folder
  folder=$(model) || return 1
  [ -e "$scratch/calibrated" ] && return
  printf 'a red apple\na blue cup\n' > "$scratch/prompts.txt"
  timeout 300 "$halftone" calibrate -m "$folder" --device "$device" --cache-dir "$scratch/cache" --prompt-file \
    "$scratch/prompts.txt" --size $small --n-steps 2 --calib-size 2 > "$results/calibrate.log" 2>&1 ||
    { tail -3 "$results/calibrate.log"; return 1; }
  touch "$scratch/calibrated"
}

# bench ROWS_FILE NAME PRECISION_LABEL OPTIONS...: one run of the program, its rows appended.
bench() {
  local rows=$1 name=$2 label=$3
  shift 3
  local folder
  folder=$(model) || { failed=1; return; }
  case $label in int8 | fp8) calibrated || { failed=1; return; } ;; esac
  timeout 520 "$halftone" bench e2e "a red apple" -m "$folder" --device "$device" --cache-dir "$scratch/cache" \
    --json="$results/$name.json" "$@" > "$results/$name.log" 2>&1 ||
    { failed=1; tail -3 "$results/$name.log"; return; }
  "$python" "$root/bench/gpu_rows.py" rows "$results/$name.json" "$results/device.txt" "halftone bench e2e $*" "$label" |
    tee -a "$rows"
}

# The workloads of one precision: whole image with guidance and a negative prompt, batch 16 in the denoiser, a profile.
half=fp16
[ "$device" = cpu ] && half=fp32
workloads() {
  local rows=$1 label=$2
  shift 2
  bench "$rows" "sdxl_$label" "$label" --size $large --steps $steps --cfg-scale 5 -n blurry --warmup 2 --iterations 7 \
    --no-profile "$@"
  bench "$rows" "sdxl_b16_$label" "$label" --size $large --steps 4 --cfg-scale 5 --batch-size 8 --warmup 1 \
    --iterations 3 --no-profile "$@"
  bench "$rows" "sdxl_profile_$label" "$label" --size $large --steps 4 --cfg-scale 5 --warmup 1 --iterations 2 "$@"
}

# Each test of the list under a tool; a process a test, so that an error on the device ends only that one. A test's exit
# status becomes 0 or 1: xargs gives up at 255, which compute-sanitizer returns too.
each_test() {
  local log=$1 processes
  shift
  processes=$(nproc)
  "$tests" --gtest_list_tests | awk '/^ /{print "*" $1}' |
    xargs -P "$((processes < 16 ? processes : 16))" -I{} sh -c 'timeout 480 "$@" || exit 1' each_test \
      "$@" "$tests" --gtest_filter={} > "$log" 2>&1 || failed=1
  echo "$log: $(grep -c '^\[       OK' "$log") passed, $(grep -c '^\[  FAILED  \].*ms)' "$log") failed," \
    "$(grep -c '^\[  SKIPPED \].*ms)' "$log") skipped, $(grep -cE '^========= .*SUMMARY: .*[1-9][0-9]* error' "$log") with tool errors"
}

peers() {
  local rows=$1 mode=$2
  if [ "$device" = cpu ]; then
    echo "peers run on a GPU only"
    return
  fi
  timeout 540 "$python" "$root/bench/peers/torch_cuda.py" sdxl:2:"$mode" sdxl:16:"$mode" turbo:1:"$mode" vae:1:"$mode" \
    clip:2:"$mode" | tee -a "$rows" || failed=1
}

# The embedded model's picture in each precision: this device's against the CPU's in the same precision.
pictures() {
  local rows=$1 precision reference
  local picture=(generate "a red heart" -m "$root/models/emoji-xl" --steps 20 --cfg-scale 5 -s 7 --cache-dir "$scratch/cache")
  [ -n "$tiny" ] && picture=(generate "a red heart" -m "$(model)" --size 64x64 --steps 2 -s 7 --cache-dir "$scratch/cache")
  if [ -n "$tiny" ]; then
    calibrated || { failed=1; return; }
  fi
  for precision in $half int8 fp8; do
    reference=$precision
    [ "$precision" = fp16 ] && reference=fp32
    "$halftone" "${picture[@]}" --device cpu --precision "$reference" -o "$results/heart_cpu_$reference.png" > /dev/null 2>&1 &&
      "$halftone" "${picture[@]}" --device "$device" --precision "$precision" -o "$results/heart_$precision.png" > /dev/null 2>&1 &&
      "$python" "$root/bench/gpu_rows.py" psnr "$results/heart_cpu_$reference.png" "$results/heart_$precision.png" |
      tee -a "$rows" || failed=1
  done
}

# --- stages

stage() {
  local rows=$results/rows.$1.jsonl
  : > "$rows"
  case $1 in
    conformance) each_test "$results/conformance.log" ;;
    memcheck | racecheck) each_test "$results/$1.log" compute-sanitizer --tool "$1" --error-exitcode 9 --require-cuda-init no ;;
    pictures) pictures "$rows" ;;
    fp16) workloads "$rows" $half --precision $half ;;
    int8) workloads "$rows" int8 --precision int8 ;;
    fp8) workloads "$rows" fp8 --precision fp8 ;;
    int8_static) workloads "$rows" int8 --precision int8 --activations static-producers ;;
    # What the sub-pixel form gains: the same runs without it.
    subpixel)
      for precision in $half int8; do
        bench "$rows" "subpixel_off_$precision" "$precision" --size $large --steps 8 --cfg-scale 5 --warmup 2 --iterations 5 \
          --no-profile --precision "$precision" --disable-pass subpixel_upsample
        bench "$rows" "subpixel_on_$precision" "$precision" --size $large --steps 8 --cfg-scale 5 --warmup 2 --iterations 5 \
          --no-profile --precision "$precision"
      done
      ;;
    # Every linear, convolution and attention of the networks on each kernel that takes it.
    kernels)
      timeout 520 "$halftone" bench kernels --device "$device" --cache-dir "$scratch/cache" --iterations 20 \
        --json="$results/kernels.json" ${tiny:+--network turbo-512-b1 --filter 64x64} \
        $([ "$device" = cpu ] && echo --dtype f32 || echo --dtype f16 --dtype bf16) --dtype i8 --dtype f8e4m3 \
        > "$results/kernels.log" 2>&1 || { failed=1; tail -3 "$results/kernels.log"; }
      cp "$results/kernels.json" "$rows"
      ;;
    # What each fusion gains: all of them, then all but one.
    fusions)
      for precision in $half int8; do
        for pass in none fuse_norm_activation fuse_epilogue merge_qkv merge_text_kv fold_layer_norm \
          group_norm_statistics store_interleaved project_queries join_norm_input; do
          bench "$rows" "without_${pass}_$precision" "$precision" --size $large --steps 4 --cfg-scale 5 --warmup 2 \
            --iterations 3 --no-profile --precision "$precision" $([ $pass = none ] || echo --disable-pass $pass)
        done
      done
      ;;
    turbo)
      for precision in $half int8 fp8; do
        bench "$rows" "turbo_$precision" "$precision" --size $small --steps 1 --cfg-scale 1 --warmup 3 --iterations 20 \
          --no-profile --precision "$precision"
      done
      ;;
    batched)
      for precision in $half int8 fp8; do
        bench "$rows" "batched_$precision" "$precision" --size $large --steps 20 --cfg-scale 5 --batch-size 8 --batch-count 4 \
          --warmup 1 --iterations 2 --no-profile --precision "$precision"
      done
      ;;
    lowvram)
      bench "$rows" lowvram "$half" --size $large --steps 4 --cfg-scale 5 --warmup 1 --iterations 2 --no-profile \
        --precision $half --low-vram
      ;;
    peers_*) peers "$rows" "${1#peers_}" ;;
    *)
      echo "unknown stage '$1'; there are: ${stages[*]}" >&2
      exit 2
      ;;
  esac
}
for name in "$@"; do
  begin=$SECONDS
  stage "$name"
  echo "$name: $((SECONDS - begin)) s"
done
exit $failed
