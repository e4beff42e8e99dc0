#!/usr/bin/env bash
# All C++ and CUDA sources in the format of .clang-format (clang-format 14).
set -euo pipefail
cd "$(dirname "$0")/.."
files=$(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
[ -n "$files" ] || { echo "format: no file found" >&2; exit 1; }
xargs clang-format --dry-run -Werror <<<"$files"
echo "format: $(wc -l <<<"$files") files"
