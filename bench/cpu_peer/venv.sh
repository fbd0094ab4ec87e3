# Sourced by bench/cpu_peer.sh and bench/cpu_quality.sh from the repository's root: llama.cpp, built
# for this machine from PyPI's llama-cpp-python into $venv, once.
# shellcheck shell=bash
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
    echo "$(basename "$0"): llama.cpp could not be installed" >&2
    exit 1
  fi
  echo "$stamp" >$venv/stamp
fi
