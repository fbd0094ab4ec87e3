#!/usr/bin/env bash
# Installs what Baton builds and runs with, from Debian's packages. Quick when nothing is missing.
#
#   tools/install_deps.sh            build and run
#   tools/install_deps.sh --test     also what ./test.sh needs
set -euo pipefail

build_packages=(
  g++ cmake ninja-build ccache pkg-config ca-certificates curl
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libucx-dev libspdlog-dev prometheus-cpp-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev
  libboost-dev libboost-system-dev libabsl-dev libicu-dev libpcre2-dev libxxhash-dev
  libssl-dev zlib1g-dev
)
test_packages=(
  libgtest-dev libgmock-dev libbenchmark-dev clang-format clang-tidy python3 python3-venv git
  iproute2 procps chromium
)

packages=("${build_packages[@]}")
if [[ "${1:-}" == --test ]]; then packages+=("${test_packages[@]}"); fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

sudo=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || {
    echo "Baton needs these Debian packages; install them as root: ${missing[*]}" >&2
    exit 1
  }
  sudo=(sudo)
fi
echo "installing ${#missing[@]} Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { "${sudo[@]}" apt-get update -q &&
       "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt-get failed; the whole log is $log" >&2
  exit 1
fi
rm -f "$log"
