#!/usr/bin/env bash
# Compares what int8 and int4 weights cost in quality with llama.cpp's Q8_0 and Q4_0, and an int8 KV
# cache with its q8_0 one.
#
#   bench/cpu_quality.sh [--models demo,b] [--positions N] …     --help: every option
#
# Builds llama.cpp as cpu_peer.sh does, and Baton's release build. Needs network for the first, 6 GB
# of memory and 3 GB of disk. A busy machine makes it slower but changes no figure.
#
# Last line: cpu_quality int8=R int4=R int8_KV=R (Baton's KL divergence from bf16 over llama.cpp's, of the worst
# model). Status 0 when it was measured, 1 on an error, also when the engines' bf16 logits disagree, 2
# for wrong options.
set -euo pipefail
cd "$(dirname "$0")/.."

for word in "$@"; do
  [[ $word != -h && $word != --help ]] || exec python3 bench/cpu_peer/quality_options.py --help
done
python3 bench/cpu_peer/quality_options.py "$@"  # wrong options end here

source bench/cpu_peer/venv.sh
nice tools/build.sh --tests release model_bench >&2
exec $venv/bin/python bench/cpu_peer/quality.py "$@"
