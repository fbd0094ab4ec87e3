#!/usr/bin/env bash
# clang-tidy with the checks of .clang-tidy, over build/release's compile commands (build it first).
#
#   tools/check_tidy.sh [-p BUILD_DIR] [-j JOBS]        the pure cores
#   tools/check_tidy.sh --all [-p BUILD_DIR] [-j JOBS]  every source file of ours but the tests
set -euo pipefail
cd "$(dirname "$0")/.."
sources=('common/*.cc' 'engine/kv/*.cc' 'engine/scheduler/*.cc' 'engine/sampling/*.cc'
  'kvtransfer/core/*.cc' '*/*_core.cc' 'router/core/*.cc' 'router/relay/*.cc')
if [[ "${1:-}" == --all ]]; then
  sources=('common/*.cc' 'engine/*.cc' 'kvtransfer/*.cc' 'worker/*.cc' 'prefill_worker/*.cc'
    'decode_worker/*.cc' 'router/*.cc' 'cli/*.cc')
  shift
fi
git ls-files -- "${sources[@]}" | tools/run_tidy.py "$@"
