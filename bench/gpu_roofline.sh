#!/usr/bin/env bash
# What one GPU reaches of its own limits: builds, checks, measures and prints one table, of times
# beside their floors and beside PyTorch's and FlashInfer's in the same run. See docs/gpu.md.
#
#   bench/gpu_roofline.sh [--out DIR] [--minutes N] [--parts "LIST"] [--python FILE|none]
#                         [--flashinfer FILE|none] [--quick] [--build DIR] [--program FILE]
#
#   --out DIR       where tables, JSON files and logs go; default: build/gpu-roofline-results
#   --minutes N     no part is begun or goes on after that; default: 8, with limits of parts made
#                   for 16 processors. More makes these longer too
#   --parts "LIST"  of: tests sanitizer peer ceilings row-ops sampling attention flashinfer products
#                   load steps steps-without-graphs steps-dependent steps-wgmma; default: all of them
#   --python FILE   an interpreter that has PyTorch; default: python3. none: no peer
#   --flashinfer FILE
#                   the program that tools/flashinfer_peer.sh builds; default: where that puts it and
#                   the bundle has it. none, or nothing there: no rows of it
#   --quick         tiny shapes: whether it runs, not how fast
#   --build DIR     where it is built; default: build/gpu-roofline. Needs CMake, a compiler, the
#                   CUDA toolkit; of libraries what tools/engine_bundle.sh packs
#   --program FILE  a gpu_roofline that is built: nothing is built, and no tests run
#
# Each part is a process with a limit of its own: one that fails or hangs is named and costs only
# its own rows. Status: 0 all was measured (targets may be missed: the table says so), 1 something
# failed, 2 wrong options, 3 all but the peer was measured, as there is no PyTorch, 4 no GPU. What
# FlashInfer does not do is told, and is no failure.
set -uo pipefail
caller=$PWD
cd "$(dirname "$0")/.."

out=build/gpu-roofline-results
build=build/gpu-roofline
minutes=8
all_parts="tests sanitizer peer ceilings steps steps-without-graphs products attention flashinfer"
all_parts+=" row-ops steps-dependent steps-wgmma sampling load"
parts=$all_parts
python=python3
flashinfer=build/peer/flashinfer/gpu_roofline_flashinfer
program=
quick=()
while (($# > 0)); do
  case $1 in
    --out | --minutes | --parts | --python | --flashinfer | --build | --program)
      (($# > 1)) || { echo "$1 needs a value" >&2; exit 2; }
      value=$2
      [[ $1 == --@(out|build|program) && $value != /* ]] && value=$caller/$value
      [[ $1 == --flashinfer && $value != none && $value != /* ]] && value=$caller/$value
      [[ $1 == --python && $value == */* && $value != /* ]] && value=$caller/$value
      declare "${1#--}=$value"
      shift 2
      ;;
    --quick) quick=(--quick); shift ;;
    -h | --help) sed -n '2,26s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "unknown option $1; see --help" >&2; exit 2 ;;
  esac
done
[[ $minutes =~ ^[0-9]+$ ]] || { echo "--minutes takes a whole number" >&2; exit 2; }

for name in $parts; do
  [[ " $all_parts " == *" $name "* ]] && continue
  echo "unknown part $name; allowed: $all_parts" >&2
  exit 2
done

# nvcc, compute-sanitizer: not a system's older ones
export PATH=/usr/local/cuda/bin:$PATH

no_gpu() {
  echo "no GPU: $1. Nothing was measured." >&2
  exit 4
}

deadline=$((SECONDS + 60 * minutes))
failures=()
mkdir -p "$out" && rm -f "$out"/*.part.json "$out"/*.log || exit 1
out=$(cd "$out" && pwd)
wanted() { [[ " $parts " == *" $1 "* ]]; }

# limited NAME SECONDS COMMAND…: prints and logs what it says; status 124: it took too long.
limited() {
  local name=$1 limit=$(($2 * minutes / 8)) left=$((deadline - SECONDS))
  shift 2
  ((limit <= left)) || limit=$left
  if ((limit < 5)); then
    echo "== $name: no time left"
    return 124
  fi
  echo "== $name (at most $limit s; $SECONDS s gone)"
  timeout -k 5 "$limit" "$@" 2>&1 | tee "$out/$name.log"
  return "${PIPESTATUS[0]}"
}

# As limited, and keeps what failed.
part() {
  limited "$@"
  local status=$?
  case $status in
    0) return 0 ;;
    124) failures+=("$1: it took too long") ;;
    137) failures+=("$1: killed, for its time or its memory") ;;
    *) failures+=("$1: status $status, see $1.log") ;;
  esac
  return "$status"
}

# Machine code for the device alone: the others' takes most of the time.
architecture_of_device() {
  local capability
  capability=$(timeout 60 nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1)
  case $capability in
    9.0) echo 90a-real ;;
    8.0 | 8.9) echo "${capability/./}-real" ;;
  esac
}

configure() {
  part "$1" 60 cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_FLAGS_RELEASE="-O2 -g1" -DBATON_ENGINE_ONLY=ON -DBATON_WARNINGS_ARE_ERRORS=OFF \
    "${arguments[@]}"
}

# Where the toolkit has no cuBLASLt to build with, PyTorch's packages bring one.
find_cublas() {
  if grep -q '^CMAKE_CUDA_COMPILER:.*NOTFOUND' "$build/CMakeCache.txt"; then
    failures+=("configure: there is no CUDA compiler, nvcc")
    return 1
  fi
  grep -q '^CUDA_cublasLt_LIBRARY:.*NOTFOUND' "$build/CMakeCache.txt" || return 0
  local packages library header
  packages=$("$python" -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
  library=$(find -L "${packages:-/none}" -name 'libcublasLt.so*' 2>/dev/null | head -n 1)
  header=$(find -L "${packages:-/none}" -name cublasLt.h 2>/dev/null | head -n 1)
  if [[ -z $library || -z $header ]]; then
    failures+=("configure: the CUDA toolkit has no cuBLASLt, nor has PyTorch")
    return 1
  fi
  echo "-- no cuBLASLt in the CUDA toolkit; taken from $packages"
  export CPLUS_INCLUDE_PATH=$(dirname "$header")
  arguments+=("-DCUDA_cublasLt_LIBRARY=$library")
  configure configure-again
}

build_program() {
  local architecture arguments=()
  compgen -G '/dev/nvidia[0-9]*' >/dev/null || timeout 60 nvidia-smi -L >/dev/null 2>&1 ||
    no_gpu "there is no /dev/nvidia0, and nvidia-smi names none"
  timeout 60 nvidia-smi 2>/dev/null | tee "$out/nvidia-smi.log"
  architecture=$(architecture_of_device)
  [[ -n $architecture ]] && arguments+=("-DBATON_CUDA_ARCHITECTURES=$architecture")
  if [[ -d third_party/usr ]]; then  # a bundle
    arguments+=("-DCMAKE_PREFIX_PATH=$PWD/third_party/usr"
      -DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu)
    local libraries=$PWD/third_party/usr/lib/x86_64-linux-gnu
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
  configure configure || return 1
  find_cublas || return 1
  # The rest can go on without the tests.
  part build 240 cmake --build "$build" -j "$(nproc)" --target gpu_roofline || return 1
  program=$build/bench/gpu_roofline/gpu_roofline
  wanted tests || wanted sanitizer || return 0
  part build-tests 200 cmake --build "$build" -j "$(nproc)" \
    --target cuda_kernels_test cuda_model_test
}

run_tests() {
  wanted tests || return 0
  part cuda_kernels_test 90 "$build/tests/unit/engine/cuda/cuda_kernels_test" --gtest_brief=1
  part cuda_model_test 90 "$build/tests/unit/engine/model/cuda_model_test" --gtest_brief=1
}

# sanitize TOOL[-NAME] SECONDS TESTS: of the kernels. It is slow: not to end in time is no finding.
# What it says of a NAME of wgmma is told and fails nothing: these kernels read what cp.async has
# brought through another proxy, which it may take for a race.
sanitize() {
  local kernels=$build/tests/unit/engine/cuda/cuda_kernels_test status
  wanted sanitizer && [[ -x $kernels ]] || return 0
  command -v compute-sanitizer >/dev/null || { echo "== no compute-sanitizer: not run"; return 0; }
  limited "$1" "$2" compute-sanitizer --tool "${1%%-*}" --error-exitcode 9 "$kernels" \
    --gtest_brief=1 --gtest_filter="$3"
  status=$?
  case $status in
    0) ;;
    124 | 137) echo "-- $1 did not end in its time: no finding, no failure" ;;
    *)
      [[ $1 == *-wgmma ]] && { echo "-- $1: status $status, see $1.log: no failure"; return 0; }
      failures+=("$1: status $status (9: it found an error), see $1.log")
      ;;
  esac
}

measure() {
  local at=$1 name=$2 limit=$3
  wanted "$name" || return 0
  part "$name" "$limit" "$program" measure "$name" "${quick[@]}" --config "$config" \
    --out "$out/$at-$name.part.json"
}

peer() {
  [[ -n $has_torch ]] || return 0
  part "$1" "$2" "$python" -u bench/gpu_roofline/peer.py --sizes "$out/sizes.json" \
    --out "$out/$1.part.json" "${on_cpu[@]}"
}

# It was built elsewhere, and is nobody's but its own: its end fails nothing.
flashinfer() {
  wanted flashinfer && [[ $flashinfer != none ]] || return 0
  [[ -x $flashinfer ]] || { echo "== no FlashInfer: $flashinfer is not there"; return 0; }
  limited flashinfer "$1" "$flashinfer" --sizes "$out/sizes.json" \
    --out "$out/92-flashinfer.part.json" || echo "-- flashinfer did not end well: no failure"
}

config=bench/configs/llama3-8b.json
((${#quick[@]})) && config=bench/configs/gpu-tiny.json
if [[ -z $program ]]; then
  build_program || { printf 'FAILED %s\n' "${failures[@]}"; [[ -n $program ]] || exit 1; }
  run_tests
  sanitize memcheck 30 '*FillRandom*:*RopeWrite*:*SiluMul*:*Gather*:*Embedding*'
fi
device=$(timeout 60 "$program" device)
status=$?
((status == 4)) && no_gpu "$program says so above"
((status == 0)) || { echo "FAILED $program device: status $status, see above" >&2; exit 1; }
echo "$device"
on_cpu=()
[[ $device == *emulated* ]] && on_cpu=(--cpu)
has_torch=
no_peer=(--no-peer)
if wanted peer && [[ $python != none ]]; then
  no_peer=()
  has_torch=$(timeout 90 "$python" -c 'import torch; print(torch.__version__)' 2>"$out/torch.log")
  echo "PyTorch: ${has_torch:-none, see torch.log}"
fi
part sizes 30 "$program" sizes "${quick[@]}" --config "$config" --out "$out/sizes.json"

# What is wanted most first. The peer twice: what changed in between, as clocks do, shows.
measure 10 ceilings 40
measure 20 steps 75
peer 90-peer-first 120
measure 30 steps-without-graphs 45
measure 35 steps-dependent 45
measure 40 products 60
measure 50 attention 40
flashinfer 40
measure 55 steps-wgmma 45
measure 60 row-ops 40
measure 70 sampling 30
measure 80 load 40
peer 91-peer-again 75
# With what time is left: the emulation's order of threads cannot show these.
sanitize racecheck-attention 60 '*AFewRowsOfASequenceAreCausal:*ANanInTheCache*-*wgmma*'
sanitize memcheck-attention 45 '*AFewRowsOfASequenceAreCausal:*ANanInTheCache*'
sanitize racecheck-wgmma 30 '*ANanInTheCache*wgmma*'

echo "== the table ($SECONDS s)"
commit=$(cat COMMIT 2>/dev/null || git describe --always --dirty 2>/dev/null)
"$program" report "$out" --note "commit ${commit:-unknown}, $(date -u '+%Y-%m-%d %H:%M') UTC" \
  "${no_peer[@]}" "${failures[@]}" | tee "$out/table.txt"
status=${PIPESTATUS[0]}
echo "in $out: table.txt, roofline.json, a log of each part; $SECONDS s"
exit "$status"
