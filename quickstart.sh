#!/usr/bin/env bash
# From a fresh Debian 12 machine to a disaggregated cluster that answers: installs what is missing,
# builds, starts a router, a prefill and a decode worker on the bundled demo model, and streams one
# completion through the HTTP API.
#
#   ./quickstart.sh           then keeps serving until Ctrl-C
#   ./quickstart.sh --once    exits after the completion
#   PORT=9000 ./quickstart.sh another port
set -euo pipefail
cd "$(dirname "$0")"

once=false
case "${1:-}" in
  "") ;;
  --once) once=true ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; [[ "$1" == -h || "$1" == --help ]] && exit 0 || exit 2 ;;
esac
port=${PORT:-8000}
[[ "$port" =~ ^[0-9]+$ ]] && ((port > 0 && port < 65536)) || {
  echo "PORT must be a number from 1 to 65535, not \"$port\"" >&2
  exit 2
}

tools/install_deps.sh
tools/build.sh release baton

baton=build/release/baton
report=$(mktemp -d)
mkfifo "$report/out"
"$baton" up --log-level warning --model models/demo --prefill 1 --decode 1 --port "$port" \
  --conditional-disaggregation off >"$report/out" &
cluster=$!
stop() {
  trap - EXIT
  kill -TERM "$cluster" 2>/dev/null || true
  local status=0
  wait "$cluster" || status=$?
  rm -rf "$report"
  exit "$status"
}
trap stop EXIT
trap stop INT TERM

url=""
while IFS= read -r line; do
  if [[ "$line" == ready\ * ]]; then url=${line#ready }; break; fi
  echo "$line"
done <"$report/out"
[[ -n "$url" ]] || { trap - EXIT; wait "$cluster" || exit $?; exit 1; }

echo
"$baton" ask --url "$url" --max-tokens 80 --seed 7 --temperature 0.7 "Once upon a time there was a"
if $once; then exit 0; fi

cat <<TXT

Serving at $url  (Ctrl-C drains and stops)

  curl $url/v1/completions -H 'content-type: application/json' \\
    -d '{"prompt": "Once upon a time there was a", "max_tokens": 60, "temperature": 0.7}'

TXT
wait "$cluster"
