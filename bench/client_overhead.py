#!/usr/bin/env python3
"""Measures what `baton bench serve` itself costs, on one core.

    bench/client_overhead.py [--build build/release] [--streams 500] [--tokens-per-s 10] [--seconds 20]

Starts bench/sse_source on one core and the load generator on another: requests come at a constant
rate chosen so that, once the first answers end, --streams streams are open and each gets
--tokens-per-s tokens. What is measured begins when all are open.

Several values of --tokens-per-s are measured one after the other. Ends with 1 when a stream was not
received whole or the client limited the run: more than 80 % of its core, or p99 of send lateness or of
read lag above --lag-ms.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile


def pinned(cpu, command):
    return ["taskset", "-c", str(cpu), *map(str, command)]


def measure(options, tokens_per_s):
    """(the JSON report's run, what the source says of itself)"""
    rate = options.streams / options.stream_seconds
    tokens = round(tokens_per_s * options.stream_seconds) + 1
    source = subprocess.Popen(
        pinned(options.server_cpu, [options.build / "bench/sse_source",
                                    f"--tokens-per-s={tokens_per_s}"]),
        stdout=subprocess.PIPE, text=True)
    try:
        port = source.stdout.readline().split()[1]
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            subprocess.run(
                pinned(options.client_cpu, [
                    options.build / "baton", "bench", "serve", f"--base-url=http://127.0.0.1:{port}",
                    "--arrival=constant", f"--rate={rate}", f"--lengths=fixed:64/{tokens}",
                    f"--warmup={options.streams}", f"--num-requests={round(rate * options.seconds)}",
                    f"--json={report.name}"]),
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            run = json.load(open(report.name))["runs"][0]
    finally:
        source.send_signal(signal.SIGTERM)
        said = source.communicate(timeout=10)[0].strip()
    return run, said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/release"))
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--tokens-per-s", type=float, nargs="+", default=[10])
    parser.add_argument("--seconds", type=float, default=20, help="how long measured requests come")
    parser.add_argument("--stream-seconds", type=float, default=10, help="how long a stream lasts")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--lag-ms", type=float, default=5)
    options = parser.parse_args()

    print(f"{'tokens/s':>9} {'peak':>8} {'streams':>8} {'CPU':>7} {'us/token':>9} {'send late':>10} "
          f"{'read lag':>9} {'loop lag':>9}  (lags: p99, ms)")
    limited = False
    for tokens_per_s in options.tokens_per_s:
        run, said = measure(options, tokens_per_s)
        summary, client = run["summary"], run["client"]
        late, read_lag = summary["send_late_ms"]["p99"], client["read_lag_ms"].get("p99", 0)
        print(f"{options.streams * tokens_per_s:9.0f} {summary['peak_output_tokens_per_s']:8.0f} "
              f"{summary['peak_in_flight']:8d} {client['cpu_fraction']:7.1%} "
              f"{client['cpu_per_token_us']:9.2f} {late:10.3f} {read_lag:9.3f} "
              f"{client['loop_lag_ms']['p99']:9.3f}\n  source: {said}", flush=True)
        whole = summary["succeeded"] == summary["requests"] and not summary["short_outputs"]
        if not whole:
            print(f"  not all streams were whole: {summary['failures']}")
        limited |= (not whole or client["cpu_fraction"] > 0.8 or late > options.lag_ms
                    or read_lag > options.lag_ms)
    return 1 if limited else 0


if __name__ == "__main__":
    sys.exit(main())
