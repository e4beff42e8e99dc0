#!/usr/bin/env bash
# clang-tidy 19 over src/ (tests excepted) with the compile commands of a build folder; the checks are in .clang-tidy.
#   scripts/check_tidy.sh [BUILD [FILE...]]     BUILD: build/release; without files all of src/
# A file is looked at again only when it, a header of ours that it includes, its compile command or .clang-tidy changed:
# BUILD/tidy holds a stamp for each clean file. A fresh build folder checks everything.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
shift $(($# > 0 ? 1 : 0))
[ -f "$build/compile_commands.json" ] || { echo "$build: configure it first (cmake --preset ci -B $build)" >&2; exit 1; }
mkdir -p "$build/tidy"

# Prints what is wrong and fails, or leaves a stamp.
check_one() {
  local build=$1 file=$2 stamp key log
  stamp="$build/tidy/${file//\//_}"
  key=$({ cat .clang-tidy; clang-tidy-19 --version; grep -F "/$file\"" "$build/compile_commands.json"
          # Every header of ours, by content: coarser than the files it includes, and never wrong.
          git ls-files 'src/*.h' 'src/*.inc' 'include/*.h' | xargs cat; cat "$file"; } | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return 0
  # -w: warnings are GCC's task, in the ci preset.
  if log=$(clang-tidy-19 -p "$build" --quiet --extra-arg=-w "$file" 2>&1); then
    echo "$key" >"$stamp"
  else
    printf '%s\n' "$log" | grep -Ev '^[0-9]+ warnings|^Suppressed|^Use -header-filter' >&2
    return 1
  fi
}
export -f check_one

if [ $# -gt 0 ]; then
  printf '%s\n' "$@"
else
  git ls-files 'src/*.cpp' | grep -v '_test\.cpp$'
fi | while read -r file; do
  # A file that this configuration does not build (another backend) has no command.
  if grep -qF "/$file\"" "$build/compile_commands.json"; then echo "$file"; fi
done >"$build/tidy/files"
[ -s "$build/tidy/files" ] || { echo "tidy: no file to check" >&2; exit 1; }
xargs -P "$(nproc)" -I{} bash -c 'check_one "$1" "$2"' _ "$build" {} <"$build/tidy/files" ||
  { echo "tidy: problems in src/" >&2; exit 1; }
echo "tidy: $(wc -l <"$build/tidy/files") files are clean"
