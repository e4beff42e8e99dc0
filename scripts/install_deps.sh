#!/usr/bin/env bash
# Installs the Debian/Ubuntu packages that building and testing need; does nothing when all are there.
# --checks adds what .ci/run needs beside.
set -euo pipefail
# libdnnl-dev only recommends ocl-icd-opencl-dev, but its CMake configuration ends without it.
packages=(build-essential cmake ninja-build git pkg-config ccache libdnnl-dev ocl-icd-opencl-dev nlohmann-json3-dev
          libcli11-dev libfmt-dev libpng-dev zlib1g-dev libutf8proc-dev libgtest-dev libbenchmark-dev librapidcheck-dev
          clang-format python3 glpk-utils)
[ "${1:-}" != --checks ] || packages+=(clang-tidy-19 libomp-19-dev)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}"
sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
