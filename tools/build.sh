#!/usr/bin/env bash
# Configures (when needed) and builds one preset: tools/build.sh PRESET [TARGET …]
# BATON_TESTS=ON also configures tests and benchmarks.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
# Equal sources in another checkout are cache hits.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
tests=${BATON_TESTS:-OFF}
log=$(mktemp)
if ! cmake --preset "$preset" -DBATON_BUILD_TESTS="$tests" -DBATON_BUILD_BENCH="$tests" \
    >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  exit 1
fi
rm -f "$log"
# One compiler for each core, but no more than memory holds (about 1.5 GiB for the heaviest file).
jobs=$(nproc)
memory_gib=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
limit=$((memory_gib * 2 / 3))
((limit >= 1)) || limit=1
((jobs <= limit)) || jobs=$limit
if [[ -t 1 ]]; then
  ninja -C "build/$preset" -j "$jobs" "$@"
else
  ninja -C "build/$preset" -j "$jobs" --quiet "$@"
fi
