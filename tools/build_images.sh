#!/usr/bin/env bash
# Builds the images that deploy/compose.yaml runs, with podman or docker:
#
#   tools/build_images.sh [TAG]           baton:TAG and baton-prometheus:TAG; TAG is `dev` unless given
#   tools/build_images.sh --cuda [TAG]    also baton-cuda:TAG, whose workers compute on NVIDIA GPUs:
#                                         2 GB of NVIDIA's packages from PyPI
#
# podman shares this user's compiler cache, so that a build after tools/build.sh takes seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
cuda=false
if [[ ${1:-} == --cuda ]]; then
  cuda=true
  shift
fi
if [[ ${1:-} == -* || $# -gt 1 ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  [[ $1 == -h || $1 == --help ]] && exit 0 || exit 2
fi
tag=${1:-dev}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

# The host's network: package sources and proxies that this machine reaches, the build reaches too.
common=(--network host --label "org.opencontainers.image.version=$tag"
        --label "org.opencontainers.image.revision=$revision")
baton=()
pip=()  # of this user's settings: where packages come from, and whom to trust for that
[[ -n ${PIP_INDEX_URL:-} ]] && pip+=(--build-arg PIP_INDEX_URL="$PIP_INDEX_URL")
if command -v podman >/dev/null; then
  engine=podman
  common+=(--format docker) # podman's own format has no HEALTHCHECK
  cache=$(ccache --get-config cache_dir 2>/dev/null || true)
  if [[ -d $cache ]]; then
    baton+=(--volume "$cache:/ccache" --build-arg CCACHE_DIR=/ccache)
  fi
  if [[ -n ${PIP_CERT:-} ]]; then
    pip+=(--volume "$PIP_CERT:/pip-certificates.crt:ro" --build-arg PIP_CERT=/pip-certificates.crt)
  fi
elif command -v docker >/dev/null; then
  engine=docker
else
  echo "no container engine: install podman or docker" >&2
  exit 1
fi

"$engine" build "${common[@]}" -t "baton-prometheus:$tag" deploy/prometheus
"$engine" build "${common[@]}" "${baton[@]}" -t "baton:$tag" -f deploy/Dockerfile .
if $cuda; then
  "$engine" build "${common[@]}" "${baton[@]}" "${pip[@]}" --build-arg "BASE=baton:$tag" -t "baton-cuda:$tag" \
    -f deploy/Dockerfile.cuda .
fi
