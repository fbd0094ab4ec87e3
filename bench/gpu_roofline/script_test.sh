#!/usr/bin/env bash
# gpu_roofline.sh from end to end with a program on the emulation: script_test.sh PROGRAM DIR
set -uo pipefail
script=$(dirname "$0")/../gpu_roofline.sh
program=$1
dir=$2
rm -rf "$dir"
mkdir -p "$dir"

fail() {
  echo "FAILED: $1"
  exit 1
}
# run STATUS NAME ARGUMENT…: its output is in $dir/NAME.txt
run() {
  local expected=$1 name=$2
  shift 2
  "$script" --out "$dir/$name" "$@" >"$dir/$name.txt" 2>&1
  local status=$?
  ((status == expected)) && return
  tail -n 40 "$dir/$name.txt"
  fail "$name: status $status, not $expected"
}
shows() { grep -qE -- "$2" "$dir/$1" || { tail -n 60 "$dir/$1"; fail "$1 does not show: $2"; }; }
hides() { ! grep -qE -- "$2" "$dir/$1" || fail "$1 shows: $2"; }

# All parts, no peer.
run 0 all --quick --program "$program" --python none --flashinfer none
for row in 'copy in device memory' 'decode 3 at 33 ' 'decode 3 at 33, no graphs ' 'decode 3 at 33, dependent launches ' 'prefill 24 ' \
  'logits 1 x 128 x 256, cuBLASLt ' 'output 20 x 256 x 128, batch-invariant ' 'prefill 20, 2/1 heads of 128, mma.sync ' 'prefill 20, 2/1 heads of 128, wgmma ' \
  'gate_up 20 x 128 x 384, gated, cuBLASLt ' 'gate_up 1 x 128 x 384, gated, batch-invariant ' 'prefill 24, wgmma ' 'RMSNorm, 20 rows ' 'SwiGLU to e4m3, 20 rows, two kernels ' \
  'sampling greedy, 2 rows ' "load from the host's memory, with cudaMalloc " \
  'start: dummy weights, scratch, KV '; do
  shows all.txt "^$row +[0-9]"
done
shows all/table.txt '^prefill 20, 2/1 heads of 128 +mma.sync [0-9.]+  ranges of 128 [0-9.]+  ranges of 256 [0-9.]+  wgmma [0-9.]+  -> '
shows all/table.txt 'emulated: times mean nothing'
shows all/table.txt 'the peer was not asked for'
hides all/table.txt 'no PyTorch'
shows all/table.txt '^commit .*, 2[0-9-]+ '
shows all/roofline.json '"name": "decode 1 at 20"'
shows all/table.txt '^FlashInfer was not measured'
hides all/table.txt FAILED

# A part that dies, one that hangs, and one whose file is broken are named; the others are there.
cat >"$dir/failing" <<FAILING
#!/usr/bin/env bash
case "\$1 \${2:-}" in
  "measure products") kill -9 \$\$ ;;
  "measure load") echo '{"part": "lo' >"\${!#}"; exit 1 ;;
esac
exec "$program" "\$@"
FAILING
chmod +x "$dir/failing"
run 1 partly --quick --program "$dir/failing" --python none --parts "ceilings products load"
shows partly/table.txt '^FAILED products: '
shows partly/table.txt '^FAILED load: status 1'
shows partly/table.txt '^FAILED 80-load.part.json: '
shows partly/table.txt '^large product +[0-9]'

# A program in FlashInfer's place: its rows are held against ours, and its end fails nothing.
cat >"$dir/in-its-place" <<'FLASHINFER'
#!/usr/bin/env bash
grep -q '"prefill 20, 2/1 heads of 128"' "$2" || exit 1
cat >"$4" <<PART
{"part": "flashinfer", "device": "a device", "note": "FlashInfer 0", "error": "a driver's", "rows": [
 {"name": "prefill 20, 2/1 heads of 128", "variant": "FA3", "samples_ms": [1]},
 {"name": "prefill 20, 2/1 heads of 128", "variant": "FA2", "error": "no such heads"}]}
PART
exit 1
FLASHINFER
chmod +x "$dir/in-its-place"
run 0 flashinfer --quick --program "$program" --python none --flashinfer "$dir/in-its-place" \
  --parts "ceilings attention flashinfer"
shows flashinfer.txt '^-- flashinfer did not end well: no failure'
shows flashinfer/table.txt '^prefill 20, 2/1 heads of 128 +ours .*  FlashInfer 1 \(FA3\)  -> '
shows flashinfer/table.txt '^FlashInfer, prefill 20, 2/1 heads of 128, FA2: no such heads'
shows flashinfer/table.txt "^FlashInfer: a driver's"
run 0 no_flashinfer --quick --program "$program" --python none --flashinfer "$dir/nothing" \
  --parts "ceilings flashinfer"
shows no_flashinfer.txt '^== no FlashInfer: .*/nothing is not there'

run 2 option --no-such-option
run 2 value --minutes many
run 2 part --parts "ceilings product"
shows part.txt 'unknown part product; allowed: tests '
run 3 no_torch --quick --program "$program" --python false --parts "peer ceilings"
shows no_torch.txt 'no PyTorch: peer not run'
printf '#!/bin/sh\nexit 4\n' >"$dir/no-device"
printf '#!/bin/sh\necho the driver is too old >&2\nexit 1\n' >"$dir/too-old"
chmod +x "$dir/no-device" "$dir/too-old"
run 4 no_gpu --program "$dir/no-device"
run 1 broken --program "$dir/too-old"
shows broken.txt 'the driver is too old'
hides broken.txt 'no GPU'
run 1 no_time --quick --program "$program" --python none --minutes 0
shows no_time.txt 'ceilings: no time left'
echo ok
