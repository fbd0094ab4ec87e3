#!/usr/bin/env python3
"""Hours of mixed traffic with deaths, on a real cluster whose survivors must not grow.

Router, two prefill and two decode workers, each a process on a host of its own (a network
namespace), KV over TCP; with --transport shm all on one host. Clients stream answers that are known
from a run without faults, and read some whole; some leave in the middle. Once a minute prefill-1 or
decode-1 is killed and started again. The router, prefill-0 and decode-0 live through it all: they
see every death, every new peer and every client, so whatever is not given back piles up there.

Each of them is sampled: resident memory, mapped regions (memory registrations among them),
descriptors, threads. After the warm-up, the median of the last fifth may be `--most-growth` percent
above that of the first fifth, or by what comes and goes (`spare`), and no more. At the end no KV
block may be held on any worker.

Prints a row a minute, a table of the survivors, and as its last line `S s, K kills, R requests, P problems`;
the exit status is 0 if P is 0. Needs root.
"""

import argparse
import collections
import json
import os
import random
import statistics
import sys
import tempfile
import time

import network as net
from load import Load
from nodes import HTTP_PORT, Nodes

from cluster import wait_until  # nodes put it on the path
from mixed_requests import mixed_requests

HOSTS = ["router", "prefill-0", "prefill-1", "decode-0", "decode-1"]
SURVIVORS = ["router", "prefill-0", "decode-0"]
MORTALS = ["prefill-1", "decode-1"]
# What comes and goes by itself; gRPC makes up to two threads for each CPU when it is busy, and
# keeps them.
SPARE = {"resident memory, MiB": 1.0, "mapped regions": 20, "descriptors": 6,
         "threads": 2 * os.cpu_count()}


def spare(what, transport):
    # Over TCP a worker was seen to have 17 descriptors and 6, 12 or 18 more, by how often UCX has
    # connected it to its two peers, from the first second on.
    return 12 if what == "descriptors" and transport == "tcp" else SPARE[what]


def holdings(node):
    """{what: how much} of a process, by the names in `SPARE`."""
    return dict(zip(SPARE, (node.resident() / (1 << 20), node.mappings(), node.descriptors(),
                           node.threads())))


class Soak:
    def __init__(self, options, nodes):
        self.options, self.nodes = options, nodes
        self.samples = {host: {what: [] for what in SPARE} for host in SURVIVORS}
        self.kills = 0
        self.began = 0.0

    def run(self):
        options = self.options
        bodies = mixed_requests(options.seed, options.bodies)
        self.load = Load(self.nodes.router.address, HTTP_PORT, bodies,
                         self.nodes.known_answers(bodies), options.clients, options.seed,
                         options.leave_share, options.whole_share, options.think)
        self.load.start()
        self.began = time.monotonic()
        end, kill_at = self.began + options.seconds, self.began + options.kill_every
        rng = random.Random(options.seed)
        at = self.began
        while at < end:
            at = min(at + options.sample_every, end)
            time.sleep(max(0.0, at - time.monotonic()))  # the schedule's clock
            if kill_at <= at < end - options.kill_every / 2:
                self.nodes.workers[rng.choice(MORTALS)].kill()
                self.kills += 1
                kill_at += options.kill_every
            self.sample()
        problems = [] if self.load.stop() else ["a client waits for ever"]
        self.nodes.wait_whole(60)
        try:
            wait_until(lambda: not any(node.busy_blocks() for node in self.nodes.workers.values()),
                       40, "no KV block is held")
        except AssertionError:
            problems.append("KV blocks are held at rest")
        return problems + self.judge()

    def sample(self):
        now = {host: holdings(self.nodes.all[host]) for host in SURVIVORS}
        for host, held in now.items():
            for what, value in held.items():
                self.samples[host][what].append(value)
        elapsed = time.monotonic() - self.began
        if len(self.samples["router"]["threads"]) % max(1, round(60 / self.options.sample_every)) == 0:
            print(f"{elapsed:7.0f} s, {self.kills} kills, {len(self.load.outcomes)} requests; "
                  + "; ".join(f"{host} " + " ".join(f"{value:.1f}" if value % 1 else f"{value:.0f}"
                                                    for value in held.values())
                              for host, held in now.items()), flush=True)

    def judge(self):
        problems = []
        outcomes = self.load.outcomes
        counts = collections.Counter(outcome.kind for outcome in outcomes)
        errors = collections.Counter(outcome.detail.split(": ")[-1]
                                     for outcome in outcomes if outcome.kind == "error")
        print("requests:", ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
        print("typed errors:", ", ".join(f"{count} {code}" for code, count in errors.items()) or "none")
        problems += [outcome.detail for outcome in outcomes if outcome.kind in ("wrong", "broken")]
        problems += [f"{host} ended by itself with {code}: {' / '.join(tail)}"
                     for host, code, tail in self.nodes.unordered_ends]
        print(f"\n{'held by the survivors (median)':42}{'first fifth':>13}{'last fifth':>13}{'growth':>9}")
        for host, series in self.samples.items():
            for what, values in series.items():
                after = values[int(len(values) * self.options.warm_up):]
                fifth = max(1, len(after) // 5)
                first, last = statistics.median(after[:fifth]), statistics.median(after[-fifth:])
                growth = 100 * (last - first) / first
                print(f"{host + ': ' + what:42}{first:13.1f}{last:13.1f}{growth:8.2f}%")
                if growth > self.options.most_growth and last - first > spare(what, self.options.transport):
                    problems.append(f"{host}: {what} grew by {growth:.1f} %: {first:.1f} to {last:.1f}")
        return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=7200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, default=60, metavar="S")
    parser.add_argument("--sample-every", type=float, default=5, metavar="S")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--think", type=float, default=1.0, metavar="S",
                        help="mean pause of a client between requests")
    parser.add_argument("--bodies", type=int, default=400, help="different requests")
    parser.add_argument("--leave-share", type=float, default=0.3)
    parser.add_argument("--whole-share", type=float, default=0.2, help="read whole, not streamed")
    parser.add_argument("--warm-up", type=float, default=0.1, help="share of the run not judged")
    parser.add_argument("--most-growth", type=float, default=2, metavar="PERCENT")
    parser.add_argument("--transport", default="tcp", choices=["tcp", "shm"],
                        help="of KV; shm: all on one host")
    parser.add_argument("--json", metavar="FILE", help="write all samples")
    options = parser.parse_args()
    net.enter()
    print(f"seed {options.seed}; columns: {', '.join(SPARE)}")
    with tempfile.TemporaryDirectory(prefix="baton-soak-") as logs:
        place = net.OneHost if options.transport == "shm" else net.Network
        with place(HOSTS) as network, \
                Nodes(network, logs, 2, 2, options.transport) as nodes:
            soak = Soak(options, nodes)
            problems = soak.run()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(soak.samples, file)
    for problem in problems[:20]:
        print("PROBLEM", problem)
    print(f"{options.seconds:.0f} s, {soak.kills} kills, {len(soak.load.outcomes)} requests, "
          f"{len(problems)} problems")
    return 0 if not problems else 1


if __name__ == "__main__":
    sys.exit(main())
