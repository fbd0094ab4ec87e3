#!/usr/bin/env python3
"""Compares KV transfer with ucx_perftest, and a handoff's exposed time with one decode step.

    bench/kv_transfer_compare.py [--bench build/release/bench/kv_transfer_bench] [--rounds 5]

Streams: our messages against `ucx_perftest -t ucp_am_bw` (Debian package ucx-utils) over the same
transport, message size by message size, one behind the other, several rounds: a shared machine gives
more or less from second to second, so only what one run measured side by side compares. The ratio is
of the medians; the best of each stands beside it.

Handoffs: 512 tokens of the model of bench/configs/530m.json, a layer at a time. Exposed is the time
from the last layer's end to the seal at the receiver.

Ends with 1 when a ratio is below --ratio or a median exposed time is above --decode-step-ms.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

PERFTEST_TLS = {"shm": "posix,sysv,cma,tcp", "tcp": "tcp"}  # perftest needs tcp to meet its peer
MIB = 1048576


def our_stream(bench, transport, size, messages):
    """GB/s (1e9 bytes) of `messages` messages of `size` bytes."""
    out = subprocess.run(
        [bench, "stream", "--transport", transport, "--bytes", str(size), "--messages", str(messages)],
        check=True, capture_output=True, text=True, timeout=120).stdout
    return float(out)


def perftest(transport, size, messages, port):
    """GB/s that ucx_perftest's active messages reach."""
    env = dict(os.environ, UCX_TLS=PERFTEST_TLS[transport], UCX_WARN_UNUSED_ENV_VARS="n")
    if transport == "tcp":
        env["UCX_NET_DEVICES"] = "lo"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(["ucx_perftest", "-p", str(port)], env=env, **quiet)
    try:
        for _ in range(20):
            time.sleep(0.1)
            client = subprocess.run(
                ["ucx_perftest", "-p", str(port), "127.0.0.1", "-t", "ucp_am_bw", "-f",
                 "-w", str(max(1, messages // 4)), "-n", str(messages), "-s", str(size)],
                env=env, capture_output=True, text=True, timeout=120)
            # The last line: messages, three latencies in us, then MB/s average and overall, ...
            fields = client.stdout.split("\n")[-2].split() if "\n" in client.stdout else []
            if client.returncode == 0 and len(fields) >= 6 and fields[0].isdigit():
                return float(fields[5]) * MIB / 1e9
        raise RuntimeError(f"ucx_perftest gave no figure over {transport}")
    finally:
        server.kill()
        server.wait()


def compare_streams(args, port):
    print(f"streams: GB/s, medians of {args.rounds} rounds, best in brackets")
    print(f"{'transport':>9} {'bytes':>9} {'ours':>15} {'ucx_perftest':>15} {'ratio':>6} {'of bests':>9}")
    worst = float("inf")
    for transport in args.transports:
        for size in args.sizes:
            messages = min(8192, max(256, (1 << 30) // size))
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(our_stream(args.bench, transport, size, messages))
                theirs.append(perftest(transport, size, messages, port))
                port += 1
            ratio = statistics.median(ours) / statistics.median(theirs)
            worst = min(worst, ratio)
            print(f"{transport:>9} {size:>9} {statistics.median(ours):>7.2f} ({max(ours):.2f})"
                  f" {statistics.median(theirs):>7.2f} ({max(theirs):.2f}) {ratio:>6.2f}"
                  f" {max(ours) / max(theirs):>9.2f}", flush=True)
    return worst


def compare_handoffs(args):
    print(f"\nhandoffs: 512 tokens, 12.6 MB; one decode step takes {args.decode_step_ms} ms")
    print(f"{'transport':>9} {'layer gap':>9} {'busy':>5} {'first':>8} {'p50':>8} {'p90':>8} {'max':>8}"
          f" {'of a step':>9}")
    worst = 0.0
    # The last row: both workers compute on the same cores, and layers come as fast as one core
    # of this machine makes them. The row before: nothing is overlapped.
    for transport in args.transports:
        for gap_ms, busy in ((4, 0), (0, 0), (4, 2)):
            out = subprocess.run(
                [args.bench, "handoff", "--transport", transport, "--handoffs", str(args.handoffs),
                 "--layer-gap-ms", str(gap_ms), "--busy-threads", str(busy)],
                check=True, capture_output=True, text=True, timeout=300).stdout.split()
            first, p50, p90, largest = (float(out[out.index(k) + 1])
                                        for k in ("first", "p50", "p90", "max"))
            worst = max(worst, p50)
            print(f"{transport:>9} {gap_ms:>6} ms {busy:>5} {first:>5.2f} ms {p50:>5.2f} ms {p90:>5.2f} ms"
                  f" {largest:>5.2f} ms {p50 / args.decode_step_ms:>9.2f}", flush=True)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", default="build/release/bench/kv_transfer_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transports", nargs="+", default=["shm", "tcp"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[65536, 262144, 524288, 1048576])
    parser.add_argument("--handoffs", type=int, default=50)
    parser.add_argument("--decode-step-ms", type=float, default=28.0)
    parser.add_argument("--ratio", type=float, default=0.8)
    args = parser.parse_args()
    if shutil.which("ucx_perftest") is None:
        sys.exit("ucx_perftest is not installed (apt-get install ucx-utils)")
    worst = compare_streams(args, 22000 + os.getpid() % 8000)
    exposed = compare_handoffs(args)
    print(f"\nlowest ratio {worst:.2f} (wanted {args.ratio}), longest median exposed time {exposed:.2f} ms"
          f" (wanted under {args.decode_step_ms})")
    return 0 if worst >= args.ratio and exposed <= args.decode_step_ms else 1


if __name__ == "__main__":
    sys.exit(main())
