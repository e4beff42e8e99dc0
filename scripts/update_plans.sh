#!/usr/bin/env bash
# Writes tests/plans/*.txt anew from what the compiler decides now; look at the difference before committing it.
#   scripts/update_plans.sh [BUILD]     BUILD: build/release
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
cmake --build "$build" --target plans_test
HALFTONE_UPDATE_PLANS=1 "$build/bin/plans_test"
git diff --stat -- tests/plans
