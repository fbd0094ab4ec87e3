#!/usr/bin/env bash
# Fetches FlashInfer's headers and builds the program that times its attention beside ours, which
# bench/gpu_roofline.sh runs where it is there. Nothing of Baton needs it, and none of it is kept in
# the repository: FlashInfer is under the Apache License 2.0, CUTLASS in it under BSD-3-Clause.
#
#   tools/flashinfer_peer.sh [WHEEL]     build/peer/flashinfer/gpu_roofline_flashinfer, machine code
#                                        for compute capability 9.0 alone; needs nvcc, and what
#                                        tools/install_deps.sh --test installs
#
# WHEEL: flashinfer_python's, downloaded before; default: from PyPI, 62 MB. Where the program runs,
# glibc must not be older than this machine's.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0; }

version=0.7.2.post1
sha256=bfdc18b9e1e4d8d0730fe4343dc0e284cd0c160086de80f99888bc4867922d49
peer=build/peer/flashinfer
wheel=${1:-$peer/flashinfer_python-$version-py3-none-any.whl}
mkdir -p "$peer"

if [[ ! -e $wheel ]]; then
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$peer" "flashinfer-python==$version"
fi
echo "$sha256  $wheel" | sha256sum --check --quiet

# The headers alone: the wheel has sources, Python and more of other libraries besides.
if [[ ! -e $peer/headers-$version ]]; then
  rm -rf "$peer/data"
  python3 - "$wheel" "$peer" <<'UNPACK'
import sys
import zipfile

ROOT = "flashinfer/data/"
FOLDERS = ("include/", "cutlass/include/", "cutlass/tools/util/include/",
           "cccl/libcudacxx/include/", "cccl/cub/cub/", "cccl/thrust/thrust/")
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for entry in wheel.infolist():
        if entry.filename.startswith(tuple(ROOT + folder for folder in FOLDERS)):
            entry.filename = entry.filename.removeprefix("flashinfer/")
            wheel.extract(entry, sys.argv[2])
UNPACK
  touch "$peer/headers-$version"
fi

cmake -S . -B "$peer/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O2 -g1" \
  -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DBATON_ENGINE_ONLY=ON -DBATON_BUILD_TESTS=OFF \
  -DBATON_CUDA_ARCHITECTURES=90a-real -DBATON_FLASHINFER_DATA="$PWD/$peer/data" \
  -DBATON_FLASHINFER_VERSION="$version" >"$peer/configure.log" ||
  { cat "$peer/configure.log" >&2; exit 1; }
# One compiler for each core, but no more than memory holds: 3.7 GiB for the heaviest file.
jobs=$(awk -v cores="$(nproc)" '/MemAvailable/ { fit = int($2 / 4194304)
  print fit < 1 ? 1 : fit < cores ? fit : cores }' /proc/meminfo)
ninja -C "$peer/build" -j "$jobs" --quiet gpu_roofline_flashinfer
strip -o "$peer/gpu_roofline_flashinfer" \
  "$peer/build/bench/gpu_roofline/flashinfer/gpu_roofline_flashinfer"
echo "$peer/gpu_roofline_flashinfer: $(du -h "$peer/gpu_roofline_flashinfer" | cut -f1)"
