#!/usr/bin/env bash
# Installs what is missing, builds the engine and draws one picture with the embedded model in full
# (fp32) and in 8-bit (int8) precision; the first 8-bit run calibrates (8 prompts here, 32 are the
# default). `halftone compare` then says how near the two are.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install_deps.sh
cmake --preset ci -B build/release
cmake --build build/release --target halftone
halftone=build/release/bin/halftone
mkdir -p build/demo
"$halftone" generate "a red apple" --seed 1 --precision fp32 -o build/demo/apple-fp32.png
"$halftone" generate "a red apple" --seed 1 --precision int8 --calib-size 8 -o build/demo/apple-int8.png
printf '%s\n' "a red apple" "an owl" "a sunflower" >build/demo/prompts.txt
"$halftone" compare --prompts-file build/demo/prompts.txt --a fp32 --b int8 --calib-size 8 \
  --seed 1 --output build/demo/compare
echo "pictures: build/demo/apple-fp32.png build/demo/apple-int8.png; report: build/demo/compare/report.html"
