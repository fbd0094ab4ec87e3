#!/usr/bin/env bash
# Builds the images that deploy/compose.yaml runs, with podman or docker:
#
#   tools/build_images.sh [TAG]      baton:TAG and baton-prometheus:TAG; TAG is `dev` unless given
#
# podman shares this user's compiler cache, so that a build after tools/build.sh takes seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:-dev}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

# The host's network: package sources and proxies that this machine reaches, the build reaches too.
common=(--network host --label "org.opencontainers.image.version=$tag"
        --label "org.opencontainers.image.revision=$revision")
baton=()
if command -v podman >/dev/null; then
  engine=podman
  common+=(--format docker) # podman's own format has no HEALTHCHECK
  cache=$(ccache --get-config cache_dir 2>/dev/null || true)
  if [[ -d $cache ]]; then
    baton+=(--volume "$cache:/ccache" --build-arg CCACHE_DIR=/ccache)
  fi
elif command -v docker >/dev/null; then
  engine=docker
else
  echo "no container engine: install podman or docker" >&2
  exit 1
fi

"$engine" build "${common[@]}" -t "baton-prometheus:$tag" deploy/prometheus
"$engine" build "${common[@]}" "${baton[@]}" -t "baton:$tag" -f deploy/Dockerfile .
