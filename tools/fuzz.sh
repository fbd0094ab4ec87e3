#!/usr/bin/env bash
# Builds the fuzzers (preset `fuzz`) and runs them, two at a time.
#
#   tools/fuzz.sh [--seconds N] [--seed S] [NAME …]
#
# Each for N seconds (60), all of them or those named. With a seed the way is the same each time, and
# what earlier runs have gathered is left aside.
#
# New inputs gather in build/fuzz/found/NAME, from run to run. What made a fuzzer fail lies in
# build/fuzz/findings/NAME, its log beside it: run build/fuzz/fuzzers/NAME_fuzzer on the file to see
# it again. Exit status 1 when any failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

seconds=60
seed=0  # libFuzzer draws one
jobs=2
names=()
while (($# > 0)); do
  case "$1" in
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    --seed) seed=${2:?--seed needs a number}; shift 2 ;;
    -*) sed -n '2,11s/^# \{0,1\}//p' "$0"; [[ "$1" == -h || "$1" == --help ]] && exit 0 || exit 2 ;;
    *) names+=("$1"); shift ;;
  esac
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "--seconds $seconds is no number of seconds" >&2; exit 2; }

mapfile -t known < <(ls tests/fuzz/*_fuzzer.cc | sed 's|.*/||; s|_fuzzer\.cc$||')
for name in "${names[@]}"; do
  [[ " ${known[*]} " == *" $name "* ]] || { echo "no fuzzer $name; there are: ${known[*]}" >&2; exit 2; }
done
((${#names[@]} > 0)) || names=("${known[@]}")

tools/build.sh fuzz "${names[@]/%/_fuzzer}" || exit 1

findings=build/fuzz/findings
mkdir -p "$findings"
# Files that fuzzers write come and go by the thousand: in memory, where there is such a place.
scratch=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" baton_fuzz.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

run_one() {  # NAME
  local name=$1 found=build/fuzz/found/$1 arguments=() seeds=("tests/fuzz/corpus/$1")
  [[ $name == chat_template ]] && seeds+=(tests/golden/chat_template/templates)
  rm -rf "${findings:?}/$name"
  [[ $seed != 0 ]] && found=$scratch/$name/found
  mkdir -p "$scratch/$name" "$found" "$findings/$name"
  [[ -e tests/fuzz/corpus/$name.dict ]] && arguments+=(-dict="tests/fuzz/corpus/$name.dict")
  find "$found" -type f | wc -l >"$scratch/$name.before"
  TMPDIR=$scratch/$name ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 \
    "build/fuzz/fuzzers/${name}_fuzzer" "${arguments[@]}" -seed="$seed" -max_total_time="$seconds" -max_len=8192 \
    -timeout=20 -rss_limit_mb=2560 -print_final_stats=1 -artifact_prefix="$findings/$name/" \
    "$found" "${seeds[@]}" >"$findings/$name.log" 2>&1
  echo $? >"$scratch/$name.status"
  find "$found" -type f | wc -l >"$scratch/$name.after"
}

for name in "${names[@]}"; do
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
  run_one "$name" &
done
wait

failed=0
printf '%-16s %12s %10s %8s %7s  %s\n' fuzzer executions exec/s edges new result
for name in "${names[@]}"; do
  log=$findings/$name.log
  executions=$(awk '/^stat::number_of_executed_units:/ { print $2 }' "$log")
  rate=$(awk '/^stat::average_exec_per_sec:/ { print $2 }' "$log")
  edges=$(grep -oE ' cov: [0-9]+' "$log" | tail -n 1 | grep -oE '[0-9]+')
  new=$(($(<"$scratch/$name.after") - $(<"$scratch/$name.before")))
  result=ok
  if (($(<"$scratch/$name.status") != 0)); then
    failed=1
    artifact=$(find "$findings/$name" -type f | head -n 1)
    result="FAILED ${artifact:-$log}"
  fi
  printf '%-16s %12s %10s %8s %7s  %s\n' "$name" "${executions:--}" "${rate:--}" "${edges:--}" "$new" \
    "$result"
done
exit $failed
