#!/usr/bin/env bash
# Fails when a file is not formatted as .clang-format says. Silent when all is well.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files -- '*.cc' '*.h' '*.cu' '*.cuh' | xargs -r clang-format --dry-run -Werror
