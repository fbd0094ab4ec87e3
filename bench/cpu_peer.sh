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

source bench/cpu_peer/venv.sh
nice tools/build.sh --tests release model_bench cpu_limits >&2
exec $venv/bin/python bench/cpu_peer/compare.py "$@"
