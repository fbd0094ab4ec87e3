#!/usr/bin/env bash
# Installs what Baton builds and runs with, from Debian's packages. Quick when nothing is missing.
#
#   tools/install_deps.sh            build and run
#   tools/install_deps.sh --test     also what ./test.sh needs
set -euo pipefail

build_packages=(
  g++ cmake ninja-build ccache pkg-config ca-certificates curl
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libucx-dev libgloo-dev libspdlog-dev prometheus-cpp-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev
  libboost-dev libboost-system-dev libabsl-dev libicu-dev libpcre2-dev libxxhash-dev
  libssl-dev zlib1g-dev
)
test_packages=(
  openssl libgtest-dev libgmock-dev libbenchmark-dev clang-14 clang-format clang-tidy
  libclang-rt-14-dev llvm-14 python3 python3-venv git
  iproute2 iptables procps systemd chromium prometheus docker-compose spin
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

# Prometheus is wanted for its programs, not as a service of this machine: a policy keeps packages
# from starting services while this script runs, and what was enabled here is disabled again.
policy=/usr/sbin/policy-rc.d
if [[ " ${missing[*]} " == *" prometheus "* ]]; then
  if [[ ! -e $policy ]]; then
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
  fi
  disable_prometheus=true
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
# Also without systemd: then nothing starts it, but a later boot of the same disk might.
if ${disable_prometheus:-false}; then
  "${sudo[@]}" systemctl disable --quiet prometheus.service 2>/dev/null ||
    "${sudo[@]}" rm -f /etc/systemd/system/multi-user.target.wants/prometheus.service
fi
