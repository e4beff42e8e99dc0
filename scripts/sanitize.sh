#!/usr/bin/env bash
# Tests under sanitizers.
#   scripts/sanitize.sh            ASan and UBSan over what reads foreign bytes: base, io, text, graph, all fuzz corpora
#   scripts/sanitize.sh all        ASan and UBSan over all tests
#   scripts/sanitize.sh tsan       TSan over what starts threads of its own: base, io, backend and runtime
#   scripts/sanitize.sh tsan-all   TSan over all tests
# OpenMP's barriers are unknown to TSan, so its regions run on one thread there. Arguments after the first go to ctest
# (all, tsan-all), for example -R Plans. The last line says how long building and testing took.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-parsers}
shift $(($# > 0 ? 1 : 0))
# -Og compiles as quickly as no optimisation and runs faster; lines are all that a report needs.
preset=dev flags=(-DCMAKE_CXX_FLAGS_DEBUG="-Og -g1")
case $what in
  parsers) targets=(base_test io_test text_test graph_test) ;;
  all) targets=(all) ;;
  tsan) preset=tsan targets=(base_test io_test backend_test runtime_test) ;;
  tsan-all) preset=tsan targets=(all) ;;
  *) sed -n '2,8s/^# //p' "$0" >&2 && exit 2 ;;
esac
[ "$preset" != tsan ] || flags=(-DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1")
if [ "$what" = parsers ]; then
  for source in fuzz/*.cpp; do
    name=$(basename "$source" .cpp)
    [ "$name" = corpus_test ] || targets+=("${name}_corpus_test")
  done
fi
cmake --preset "$preset" "${flags[@]}" >/dev/null
cmake --build --preset "$preset" --target "${targets[@]}"
built=$SECONDS
[ "$preset" != tsan ] || export OMP_NUM_THREADS=1
if [ "${targets[0]}" = all ]; then
  ctest --preset "$preset" --no-tests=error -j "$(nproc)" "$@"
else
  for target in "${targets[@]}"; do
    "build/$preset/bin/$target" --gtest_brief=1
  done
fi
echo "sanitizers ($what): built in $built s, tested in $((SECONDS - built)) s"
