#!/usr/bin/env bash
# Packs what the engine, its kernels and their tests need to build on a machine that has only a
# compiler, CMake and (for CUDA) the toolkit: our sources, and the few Debian packages behind them.
#
#   tools/engine_bundle.sh [FILE]     default: build/engine-bundle.tar.gz, 9 MiB; needs what
#                                     tools/install_deps.sh --test installs
#
# With the program that tools/flashinfer_peer.sh has built, where it is there.
#
# There: tar xzf engine-bundle.tar.gz && cd engine-bundle && ./build.sh [CMake arguments]
# which builds with all processors under build/ and runs the tests; those that need a GPU skip, and
# say so, where there is none. And ./bench/gpu_roofline.sh, which builds for itself and measures.
set -euo pipefail
cd "$(dirname "$0")/.."

file=${1:-build/engine-bundle.tar.gz}
[[ $file == -h || $file == --help ]] && { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0; }
mkdir -p "$(dirname "$file")"
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
bundle=$staging/engine-bundle
mkdir -p "$bundle/third_party/usr"

# Sources: what git knows, as it is in the working tree.
git ls-files -z -- CMakeLists.txt cmake common engine bench/configs bench/gpu_roofline \
  bench/gpu_roofline.sh models/demo tests/unit/engine tests/support | tar c --null -T - | tar x -C "$bundle"

git describe --always --dirty >"$bundle/COMMIT"

flashinfer=build/peer/flashinfer/gpu_roofline_flashinfer
if [[ -x $flashinfer ]]; then
  mkdir -p "$bundle/${flashinfer%/*}"
  cp "$flashinfer" "$bundle/$flashinfer"
  echo "with $flashinfer"
fi

# Headers, libraries and CMake files of the packages, in the places that Debian gives them.
packages=(libabsl-dev libabsl20220623 nlohmann-json3-dev libxxhash-dev libxxhash0 libgtest-dev libgmock-dev)
dpkg -L "${packages[@]}" | grep -E '^/usr/(include|lib|share/cmake)/' | sort -u |
  while read -r path; do [[ -d $path && ! -L $path ]] || printf '%s\0' "$path"; done |
  tar c --null -T - 2>/dev/null | tar x -C "$bundle/third_party"
rm -f "$bundle"/third_party/usr/lib/*/libabsl_*.a  # the shared ones travel

cat >"$bundle/build.sh" <<'BUILD'
#!/usr/bin/env bash
# Builds the engine and runs its tests; see tools/engine_bundle.sh.
set -euo pipefail
cd "$(dirname "$0")"
usr=$PWD/third_party/usr
cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O2 -g1" \
  -DBATON_ENGINE_ONLY=ON -DBATON_WARNINGS_ARE_ERRORS=OFF -DCMAKE_PREFIX_PATH="$usr" \
  -DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu "$@"
cmake --build build -j "$(nproc)"
export LD_LIBRARY_PATH=$usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
ctest --test-dir build --output-on-failure -j "$(nproc)"
BUILD
chmod +x "$bundle/build.sh"
tar czf "$file" -C "$staging" engine-bundle
echo "$file: $(du -h "$file" | cut -f1)"
