#!/usr/bin/env bash
# Every header compiles alone: each .h of include/, src/ and tools/ is the only include of an empty source.
set -euo pipefail
cd "$(dirname "$0")/.."
flags="-std=c++20 -fopenmp -Iinclude -Isrc -Itools -DHALFTONE_VERSION=\"\" -DHALFTONE_SOURCE_DIR=\"\" $(pkg-config --cflags libutf8proc) $*"
export flags
check_one() {
  local log
  # shellcheck disable=SC2086
  log=$(printf '#include "%s"\n' "$PWD/$1" | ${CXX:-g++} $flags -fsyntax-only -x c++ - 2>&1) && return 0
  printf '%s does not compile alone\n%s\n' "$1" "$log" >&2
  return 1
}
export -f check_one
headers=$(git ls-files 'include/*.h' 'src/*.h' 'tools/*.h')
[ -n "$headers" ] || { echo "headers: none found" >&2; exit 1; }
xargs -P "$(nproc)" -I{} bash -c 'check_one "$1"' _ {} <<<"$headers" || { echo "headers: some need others" >&2; exit 1; }
echo "headers: $(wc -l <<<"$headers") compile alone"
