#!/usr/bin/env bash
# Makes .venv with the Python packages that the integration tests use. Quick when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=tests/integration/requirements.txt
stamp=.venv/requirements.sha256
want=$(sha256sum <"$requirements")
[[ -f $stamp && "$(cat $stamp)" == "$want" ]] && exit 0
rm -rf .venv
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r "$requirements"
echo "$want" >"$stamp"
