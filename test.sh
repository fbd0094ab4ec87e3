#!/usr/bin/env bash
# Installs, builds and runs every test; ends with `N passed, N failed`.
#
#   ./test.sh            what CI runs; tests that compute little run with sanitizers only
#   ./test.sh --long     also the long runs: those tests as they are deployed, more seeds, longer
#                        fuzzing, all tests of the CUDA kernels' PTX, mutations of the kernels,
#                        clang-tidy over everything; whether every file includes what it uses, and
#                        whether bench/gpu_roofline's FlashInfer, fetched for it, compiles
#   ./test.sh --quick    without the sanitizers' builds and the fuzzers (while developing)
set -uo pipefail
cd "$(dirname "$0")"

mode=default
case "${1:-}" in
  "") ;;
  --long) mode=long ;;
  --quick) mode=quick ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; [[ "$1" == -h || "$1" == --help ]] && exit 0 || exit 2 ;;
esac
[[ $mode == long ]] && export BATON_TEST_LONG=1
seeds=10000  # of the fault exploration
[[ $mode == long ]] && seeds=500000
fuzz_seconds=15  # for each fuzzer; two run at a time
[[ $mode == long ]] && fuzz_seconds=300

passed=0
failed=0
skipped=0
results=build/test-results
mkdir -p "$results"

# Runs one step that counts as one test.
step() {
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  if "$@"; then
    passed=$((passed + 1))
    echo "-- $name: ok ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    echo "-- $name: FAILED ($((SECONDS - start)) s)"
    return 1
  fi
}

# Adds the counts of a JUnit file.
count() {
  local line
  line=$(python3 tools/junit_counts.py "$1") || { failed=$((failed + 1)); return; }
  read -r p f s <<<"$line"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

finish() {
  echo
  echo "$passed passed, $failed failed, $skipped skipped"
  ((failed == 0)) && exit 0 || exit 1
}

suite() {  # PRESET [ctest arguments]
  local preset=$1 start=$SECONDS
  shift
  echo "== tests ($preset)"
  rm -f "$results/$preset.xml"
  ctest --test-dir "build/$preset" --output-on-failure --output-junit "$PWD/$results/$preset.xml" \
    -j "$(nproc)" --no-tests=error "$@" >"$results/$preset.log" 2>&1 ||
    grep -vE '^ *[0-9]+/[0-9]+ Test +#.*Passed|^ +Start ' "$results/$preset.log" | tail -n 150
  grep "tests passed" "$results/$preset.log"
  count "$results/$preset.xml"
  echo "-- tests ($preset): $((SECONDS - start)) s"
}

processes() {  # NAME pytest arguments
  local name=$1 start=$SECONDS
  shift
  rm -f "$results/$name.xml"
  .venv/bin/python -m pytest -q -rs tests/integration --junitxml="$results/$name.xml" "$@" ||
    echo "-- $name tests failed"
  count "$results/$name.xml"
  echo "-- $name tests: $((SECONDS - start)) s"
}

step "dependencies" tools/install_deps.sh --test || finish
step "format" tools/check_format.sh
step "includes" tools/check_includes.py
step "kernel mutations apply" tools/mutate_kernels.py --check
if [[ $mode == default ]]; then
  step "build (release)" tools/build.sh --tests release baton baton_emulated_cuda baton_benches \
    baton_optimized_tests || finish
  suite release -LE light
else
  step "build (release)" tools/build.sh --tests release || finish
  suite release
fi
[[ $mode == long ]] && step "build without precompiled headers (dev)" tools/build.sh --tests dev
[[ $mode == long ]] && step "clang-tidy" tools/check_tidy.sh --all
if [[ $mode == long && -x build/release/tests/unit/engine/cuda/cuda_ptx_test ]]; then
  step "kernels as PTX" build/release/tests/unit/engine/cuda/cuda_ptx_test --gtest_brief=1
  step "models as PTX" build/release/tests/unit/engine/model/cuda_model_ptx_test --gtest_brief=1
fi
[[ $mode == long ]] && step "kernel mutations" tools/mutate_kernels.py
[[ $mode == long && -x $(command -v nvcc || echo /usr/local/cuda/bin/nvcc) ]] &&
  step "FlashInfer's program compiles" tools/flashinfer_peer.sh
step "fault exploration" build/release/baton sim explore --seeds "$seeds"
step "handoff model" tests/model/check.sh
if [[ $mode != quick ]]; then
  step "build (asan-ubsan)" tools/build.sh --tests asan-ubsan baton_sanitized_tests &&
    suite asan-ubsan
  step "build (tsan)" tools/build.sh --tests tsan baton_threaded_tests && suite tsan -L threads
fi
[[ $mode != quick ]] && step "fuzzers" tools/fuzz.sh --seed 1 --seconds "$fuzz_seconds"
echo "== real processes"
if step "python environment" tools/test_venv.sh; then
  processes integration -m "not alone" -n 2 --dist loadfile
  processes integration_alone -m alone
fi
finish
