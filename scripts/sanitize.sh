#!/usr/bin/env bash
# Tests under sanitizers.
#   scripts/sanitize.sh         ASan and UBSan over what reads foreign bytes: base, io, text, graph, all fuzz corpora
#   scripts/sanitize.sh all     ASan and UBSan over all tests
#   scripts/sanitize.sh tsan    TSan over what starts threads of its own: base and io. OpenMP's barriers are unknown
#                               to TSan, so its regions run on one thread.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=dev
case ${1:-parsers} in
  parsers) targets=(base_test io_test text_test graph_test) ;;
  all) targets=(all) ;;
  tsan) preset=tsan targets=(base_test io_test) ;;
  *) sed -n '2,6s/^# //p' "$0" >&2 && exit 2 ;;
esac
if [ "${1:-parsers}" = parsers ]; then
  for source in fuzz/*.cpp; do
    name=$(basename "$source" .cpp)
    [ "$name" = corpus_test ] || targets+=("${name}_corpus_test")
  done
fi
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" --target "${targets[@]}"
if [ "${targets[0]}" = all ]; then exec ctest --preset "$preset" -j "$(nproc)"; fi
[ "$preset" != tsan ] || export OMP_NUM_THREADS=1
for target in "${targets[@]}"; do
  "build/$preset/bin/$target" --gtest_brief=1
done
