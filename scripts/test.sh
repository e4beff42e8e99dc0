#!/usr/bin/env bash
# Installs what is missing, builds everything in build/release and runs all tests.
# Arguments go to ctest, for example: bash scripts/test.sh -R conformance
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install_deps.sh
cmake --preset ci -B build/release
cmake --build build/release
exec ctest --test-dir build/release --output-on-failure --no-tests=error -j "$(nproc)" "$@"
