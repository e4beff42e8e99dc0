#!/usr/bin/env bash
# clang-tidy over src/: scripts/check_tidy.sh [BUILD [FILE...]]; see check_tidy.py.
exec python3 "$(dirname "$0")/check_tidy.py" "$@"
