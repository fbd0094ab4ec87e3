#!/usr/bin/env bash
# Visits every state of the handoff model with spin: the protocol must have no error, and each of
# the model's mutants must have one.
set -euo pipefail
shopt -s inherit_errexit
model=$(cd "$(dirname "$0")" && pwd)/handoff.pml
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# Prints "errors states".
explore() {
  spin -a -DMUTANT="$1" "$model" >spin.log || { cat spin.log; exit 1; }
  rm -f pan
  gcc -O1 -DSAFETY -DCOLLAPSE -o pan pan.c
  ./pan -m1000000 >pan.log
  if grep -q "search depth too small\|out of memory" pan.log; then cat pan.log; exit 1; fi
  sed -nE 's/.*errors: ([0-9]+).*/\1/p; s/^ *([0-9.e+]+) states, stored.*/\1/p' pan.log | tr '\n' ' '
}

mutants=$(sed -nE 's/^#define MUTANTS ([0-9]+)$/\1/p' "$model")
[[ -n $mutants ]] || { echo "$model does not say how many MUTANTS it has"; exit 1; }
failed=0
for mutant in $(seq 0 "$mutants"); do
  counts=$(explore "$mutant")
  read -r errors states <<<"$counts"
  [[ $errors =~ ^[0-9]+$ && -n $states ]] || { echo "mutant $mutant: pan gave no result"; exit 1; }
  if ((mutant == 0)); then
    echo "handoff: $errors errors in $states states"
    ((errors == 0)) || { cat pan.log; failed=1; }
  elif ((errors == 0)); then
    echo "mutant $mutant: not noticed in $states states"
    failed=1
  fi
done
# Every run ends: no cycle, which for a search for non-progress would be one.
spin -a -DMUTANT=0 "$model" >spin.log
gcc -O1 -DNP -DCOLLAPSE -o pan pan.c
./pan -l -m1000000 >pan.log
grep -q "errors: 0" pan.log || { echo "handoff: a run without an end"; cat pan.log; failed=1; }
((failed)) || echo "$mutants of $mutants mutants noticed"
exit "$failed"
