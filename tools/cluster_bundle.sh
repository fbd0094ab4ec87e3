#!/usr/bin/env bash
# Packs the executable with the libraries that it needs, the demo model and bench/gpu_cluster.py, for
# an x86-64 machine with a GPU that has only NVIDIA's driver, cuBLASLt and Python.
#
#   tools/cluster_bundle.sh [--ucx DIR] [FILE] [EXECUTABLE]     default: build/cluster-bundle.tar.gz
#                                                               of build/release/baton
#
# --ucx DIR: with the UCX whose libraries are in DIR, in the place of this machine's: one that has
# CUDA, say (docs/operations.md, GPUs).
#
# There: tar xzf cluster-bundle.tar.gz && cd cluster-bundle && bench/gpu_cluster.py --baton ./baton
# Its glibc must not be older than this machine's.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0; }
ucx=/usr/lib/x86_64-linux-gnu
if [[ ${1:-} == --ucx ]]; then
  ucx=${2:?--ucx DIR}
  [[ -e $ucx/libucp.so.0 && -d $ucx/ucx ]] || { echo "no libucp.so.0 and ucx/ in $ucx" >&2; exit 2; }
  shift 2
fi
file=${1:-build/cluster-bundle.tar.gz}
executable=${2:-build/release/baton}
mkdir -p "$(dirname "$file")"
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
bundle=$staging/cluster-bundle
mkdir -p "$bundle/lib/ucx"

git ls-files -z -- bench/gpu_cluster.py bench/configs models/demo tests/integration/cluster.py \
  tests/integration/mixed_requests.py | tar c --null -T - | tar x -C "$bundle"
strip -o "$bundle/lib/baton" "$executable"
# All but what belongs to the system there: libc's family and the compiler's run time.
ldd "$executable" | awk '$3 ~ /^\// { print $3 }' |
  grep -vE '/(ld-linux|libc|libm|libdl|librt|libpthread|libresolv|libstdc\+\+|libgcc_s)[.-]' |
  xargs -I{} cp -L {} "$bundle/lib/"
cp -L "$ucx"/ucx/*.so* "$bundle/lib/ucx/"
cp -L "$ucx"/libuc[mpst].so.0 "$bundle/lib/"
cat >"$bundle/baton" <<'RUN'
#!/bin/sh
# The executable with its own libraries, which its child processes find too.
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" UCX_MODULE_DIR="$here/lib/ucx"
exec "$here/lib/baton" "$@"
RUN
chmod +x "$bundle/baton"
tar czf "$file" -C "$staging" cluster-bundle
echo "$file: $(du -h "$file" | cut -f1)"
