#!/usr/bin/env python3
"""Gaps between tokens of running streams while a long prompt arrives, in each way to serve.

Each round runs the same streams twice: alone, and with one long prompt that arrives among them. Gaps
count that reach into the time between the prompt's arrival and its first token, and into the same
stretch of the run alone. Every setup gets the same two CPUs. Prints the 99th percentiles and their ratio.

    bench/itl_interference.py [--rounds 5] [--streams 4] [--prompt 2048] [--cpus 0,1]
"""

import argparse
import http.client
import json
import pathlib
import random
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATON = ROOT / "build/release/baton"
STREAM_PROMPT = 64
VOCABULARY = 32000
LOG = ["--log-level=error"]

# Name, then (role, number of CPUs, chunked_prefill) of each worker.
SETUPS = [
    ("disaggregated 1P+1D", [("prefill", 1, "auto"), ("decode", 1, "auto")]),
    ("colocated 1x2, whole prompts", [("both", 2, "off")]),
    ("colocated 1x2, chunks of 256", [("both", 2, "256")]),
    ("colocated 1x2, chunks of 32", [("both", 2, "32")]),
]


class Setup:
    """Workers and a router as processes; a context manager."""

    def __init__(self, workers, cpus, model):
        self.processes = []
        addresses = []
        cpus = list(cpus)
        for index, (role, count, chunked) in enumerate(workers):
            own, cpus = cpus[:count], cpus[count:]
            line = self._start("worker", f"--role={role}", f"--id={role}-{index}",
                               f"--model={model}", f"--threads={count}",
                               f"--chunked-prefill={chunked}",
                               "--cpus=" + ",".join(map(str, own)))
            addresses.append("127.0.0.1:" + line.split()[1])
        line = self._start("router", f"--model={model}", "--port=0", "--workers",
                           ",".join(addresses))
        self.port = int(line.split()[1])
        if self.processes[-1].stdout.readline().strip() != "ready":
            raise SystemExit("the router did not become ready")

    def _start(self, *arguments):
        process = subprocess.Popen(
            [BATON, *arguments, *LOG, "--ready-fd=1"], stdout=subprocess.PIPE,
            text=True)
        self.processes.append(process)
        line = process.stdout.readline()
        if not line.startswith("listening "):
            raise SystemExit(f"{arguments[0]} did not start")
        return line

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=90)


class Stream(threading.Thread):
    """One streamed completion; `times` are those of its tokens, by time.monotonic()."""

    def __init__(self, port, prompt, tokens):
        super().__init__(daemon=True)
        self.port, self.prompt, self.tokens = port, prompt, tokens
        self.times = []
        self.started = threading.Event()
        self.error = None

    def run(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
            body = {"prompt": self.prompt, "max_tokens": self.tokens, "stream": True,
                    "ignore_eos": True, "temperature": 0}
            connection.request("POST", "/v1/completions", json.dumps(body),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}: {response.read(300)}")
            for line in response:
                if line.startswith(b"data: {"):
                    self.times.append(time.monotonic())
                    self.started.set()
            if len(self.times) < self.tokens:
                raise RuntimeError(f"{len(self.times)} events for {self.tokens} tokens")
        except Exception as error:  # reported by the main thread
            self.error = error
        finally:
            self.started.set()


def finish(streams):
    for stream in streams:
        stream.join()
        if stream.error:
            raise SystemExit(f"a stream failed: {stream.error}")


def gaps_within(streams, begin, end):
    return [1000 * (b - a) for stream in streams for a, b in zip(stream.times, stream.times[1:])
            if a <= end and b >= begin]


def percentile(samples, percent):
    samples = sorted(samples)
    rank = (len(samples) - 1) * percent / 100
    low = int(rank)
    high = min(low + 1, len(samples) - 1)
    return samples[low] + (rank - low) * (samples[high] - samples[low])


def run_round(port, args, draw, stretch_s):
    """Gaps of the streams; with `stretch_s` None beside the prompt, else for that long."""
    prompt = lambda count: [draw.randrange(3, VOCABULARY) for _ in range(count)]
    streams = [Stream(port, prompt(STREAM_PROMPT), args.tokens) for _ in range(args.streams)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.started.wait()
    begin = time.monotonic()
    if stretch_s is None:
        long = Stream(port, prompt(args.prompt), 1)
        long.start()
        finish([long])
        end = long.times[0]
    else:
        end = begin + stretch_s
    finish(streams)
    if min(stream.times[-1] for stream in streams) < end:
        raise SystemExit("the streams ended before the prompt was done: raise --tokens")
    return gaps_within(streams, begin, end), end - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=400, help="of each stream")
    parser.add_argument("--prompt", type=int, default=2048, help="tokens of the long prompt")
    parser.add_argument("--cpus", default="0,1")
    parser.add_argument("--model", default=f"dummy:{ROOT}/bench/configs/100m.json")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    print(f"{'setup':32} {'alone p99':>10} {'beside p99':>11} {'ratio':>7} {'worst gap':>10} "
          f"{'prompt TTFT':>12}")
    for name, workers in SETUPS:
        alone, beside, stretches = [], [], []
        with Setup(workers, args.cpus.split(","), args.model) as setup:
            for _ in range(args.rounds):
                gaps, stretch_s = run_round(setup.port, args, draw, None)
                beside += gaps
                stretches.append(stretch_s)
                alone += run_round(setup.port, args, draw, stretch_s)[0]
        ratio = percentile(beside, 99) / percentile(alone, 99)
        print(f"{name:32} {percentile(alone, 99):7.1f} ms {percentile(beside, 99):8.1f} ms "
              f"{ratio:7.2f} {max(beside):7.0f} ms {1000 * percentile(stretches, 50):9.0f} ms",
              flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
