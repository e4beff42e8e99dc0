#!/usr/bin/env bash
# Builds every fuzz target with clang and runs each for a while (60 s, or the number of seconds given).
# New inputs go to build/fuzz/corpus; a crash is written to build/fuzz/crashes and ends the script with 1:
# fix it, then add the file to fuzz/corpus/<target>/ under a name that says what it is.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
cmake --preset fuzz >/dev/null
targets=$(for source in fuzz/*.cpp; do basename "$source" .cpp; done | grep -v '^corpus_test$')
# shellcheck disable=SC2086
cmake --build --preset fuzz --target $(printf 'fuzz_%s ' $targets)
mkdir -p build/fuzz/crashes
failed=0
for target in $targets; do
  mkdir -p "build/fuzz/corpus/$target"
  echo "== $target: ${seconds} s"
  log="build/fuzz/$target.log"
  build/fuzz/bin/"fuzz_$target" "build/fuzz/corpus/$target" "fuzz/corpus/$target" \
    -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
    -artifact_prefix="build/fuzz/crashes/$target-" -print_final_stats=1 >"$log" 2>&1 || failed=1
  grep -E 'DONE|SUMMARY|ERROR|number_of_executed_units|Test unit' "$log" || true
done
exit "$failed"
