#!/usr/bin/env bash
# Installs what is missing, builds the engine and draws a picture with the embedded model, in full
# (fp32) and in 16-bit (bf16) precision. 8-bit precision follows with the quantizer.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install_deps.sh
cmake --preset ci -B build/release
cmake --build build/release --target halftone
mkdir -p build/demo
for precision in fp32 bf16; do
  build/release/bin/halftone generate "a red apple" --steps 20 --cfg-scale 5 --seed 1 \
    --precision "$precision" -o "build/demo/apple-$precision.png"
done
echo "pictures: build/demo/apple-fp32.png build/demo/apple-bf16.png"
