#!/usr/bin/env bash
# Compares Baton's forward pass on the CPU with llama.cpp's, both in one run on the same weights.
#
#   bench/cpu_peer.sh [--all] [--quick] [--rounds N] …     --help: every option
#
# Builds llama.cpp for this machine from PyPI's llama-cpp-python into build/peer-venv, once (about
# ten minutes), and Baton's release build. Needs network for the first, 8 GB of memory and 3 GB of
# disk; with --all 12 and 9 GB. Nothing else of the machine should be busy; ratios bear it best.
#
# Last line: cpu_ratio prefill512=X prefill2048=X decode1=X decode8=X decode32=X
# (Baton's tokens/s over llama.cpp's, medians, bf16, 530 M parameters). Status 0 when it was measured,
# 1 on an error, 2 for wrong options.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 bench/cpu_peer/options.py "$@"  # wrong options, and --help, end here
for word in "$@"; do [[ $word == -h || $word == --help ]] && exit 0; done

venv=build/peer-venv
packages=(llama-cpp-python==0.3.36 gguf==0.19.0 numpy==2.4.6)
# As llama.cpp builds itself: OpenMP and its own matrix kernels.
flags="-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON -DGGML_OPENMP=ON -DLLAVA_BUILD=OFF"
stamp="${packages[*]} $flags"

if [[ "$(cat $venv/stamp 2>/dev/null)" != "$stamp" ]]; then
  echo "building llama.cpp into $venv; log: build/peer-venv.log" >&2
  rm -rf $venv
  mkdir -p build
  if ! { python3 -m venv $venv && CMAKE_ARGS=$flags CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) nice \
    $venv/bin/pip install --no-cache-dir --no-binary llama-cpp-python "${packages[@]}"; } >build/peer-venv.log 2>&1
  then
    tail -n 20 build/peer-venv.log >&2
    echo "cpu_peer: llama.cpp could not be installed" >&2
    exit 1
  fi
  echo "$stamp" >$venv/stamp
fi

nice tools/build.sh --tests release model_bench cpu_limits >&2
exec $venv/bin/python bench/cpu_peer/compare.py "$@"
