#!/usr/bin/env bash
# Configures (when needed) and builds one preset: tools/build.sh [--tests] PRESET [TARGET …]
# --tests also configures tests and benchmarks; without it a configured build stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=()
if [[ $1 == --tests ]]; then
  extras=(-DBATON_BUILD_TESTS=ON -DBATON_BUILD_BENCH=ON)
  shift
elif [[ ! -e build/$1/CMakeCache.txt ]]; then
  extras=(-DBATON_BUILD_TESTS=OFF -DBATON_BUILD_BENCH=OFF)
fi
preset=$1
shift
# Equal sources in another checkout are cache hits.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
log=$(mktemp)
configure() {
  cmake "$@" --preset "$preset" "${extras[@]}" >"$log" 2>&1 && return
  tail -n 30 "$log" >&2
  exit 1
}
configure
# Of a tree that another compiler was configured for CMake keeps nothing, the preset's flags included.
if grep -q "require your cache to be deleted" "$log"; then configure --fresh; fi
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
