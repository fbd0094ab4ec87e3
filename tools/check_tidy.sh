#!/usr/bin/env bash
# clang-tidy with the checks of .clang-tidy, over build/release's compile commands.
#
#   tools/check_tidy.sh         the pure cores
#   tools/check_tidy.sh --all   every source file of ours
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ "${1:-}" == --all ]]; then
  mapfile -t files < <(git ls-files -- 'common/*.cc' 'engine/*.cc' 'kvtransfer/*.cc' 'worker/*.cc' \
    'prefill_worker/*.cc' 'decode_worker/*.cc' 'router/*.cc' 'cli/*.cc')
else
  mapfile -t files < <(git ls-files -- 'common/*.cc' 'engine/kv/*.cc' 'engine/scheduler/*.cc' \
    'engine/sampling/*.cc' 'kvtransfer/core/*.cc' '*/*_core.cc' 'router/core/*.cc' \
    'router/relay/*.cc' | sort -u)
fi
# clang does not know some of g++'s warning options; its warnings are not what we ask here, its errors
# are (a file that it cannot read is not clean). What is dropped is the count of warnings suppressed.
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p build/release \
  --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-everything 2>/dev/null
