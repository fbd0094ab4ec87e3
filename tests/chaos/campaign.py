#!/usr/bin/env python3
"""Hurts a real cluster at random and checks what its clients and its processes see.

Router, two prefill and two decode workers, each a process on a host of its own (a network
namespace), KV over TCP; with --transport shm all on one host, KV over shared memory. While clients
stream answers that are known from a run without faults, processes are killed and frozen, links cut,
thinned and made to lose packets, memory and log space taken away, descriptors taken by strangers, and
crowds of clients leave. At the end all is healed, and:

  - every request had its answer, byte for byte, or one typed error, or a connection that the death
    of the router broke; no stream repeated or skipped a token, none hung;
  - no process ended that was not made to;
  - no KV block, descriptor or thread is held that was not held before.

The seed gives requests, kinds of fault and lengths; whom a fault hits also depends on who is up then.
Prints a table of what clients noticed of each kind of fault, and as its last line
`N faults, P problems`; the exit status is 0 if P is 0. Needs root.
"""

import argparse
import collections
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time

import network as net
from load import Load
from nodes import ADMIN_PORT, CONTROL_PORT, HTTP_PORT, KV_PORT, MAX_FILES, Nodes

from cluster import in_parallel, wait_until  # nodes put it on the path
from mixed_requests import mixed_requests

HOSTS = ["router", "prefill-0", "prefill-1", "decode-0", "decode-1"]
WORKERS = HOSTS[1:]
PAIRS = [(p, d) for p in HOSTS[1:3] for d in HOSTS[3:]]
LINK_FAULTS = ["cut router from worker", "cut prefill from decode", "lose packets", "thin wire"]
PAUSE_WINDOW_S = 15  # a stream's longest pause within this time after a fault counts as its effect


class Fault:
    """One kind. `begin` returns what ends it (or nothing), and the host that it is about."""

    def __init__(self, name, weight, seconds, begin):
        self.name, self.weight, self.seconds, self.begin = name, weight, seconds, begin


class Campaign:
    def __init__(self, options, network, nodes, logs):
        self.options, self.network, self.nodes, self.logs = options, network, nodes, logs
        self.rng = random.Random(options.seed)
        self.done = []   # (time, name, host)
        self.under_way = []  # (end time, end, host)
        self.whole_after = collections.defaultdict(list)  # by kind, s from the fault; with --apart
        self.kinds = [
            Fault("kill a worker", 20, (0, 0), self.kill_worker),
            Fault("kill the router", 2, (0, 0), self.kill_router),
            Fault("freeze a worker", 20, (0.1, 2), self.freeze),
            Fault("freeze it for longer than a death takes", 4, (4, 6), self.freeze),
            Fault("cut router from worker", 10, (0.2, 6), self.cut_router),
            Fault("cut prefill from decode", 14, (0.2, 6), self.cut_pair),
            Fault("lose packets", 14, (0.5, 4), self.lose),
            Fault("thin wire", 8, (0.5, 4), self.thin),
            Fault("strangers take descriptors", 6, (0.5, 4), self.strangers),
            Fault("no memory left", 3, (0.5, 2), self.memory),
            Fault("log disk full", 6, (0.5, 3), self.disk),
            Fault("clients leave", 10, (0, 0), self.leave),
        ]
        without = options.without + (LINK_FAULTS if options.transport == "shm" else [])
        self.kinds = [kind for kind in self.kinds if kind.name not in without]

    # ---- faults: each returns (host, what ends it)

    def worker(self):
        serving = self.nodes.in_service()
        free = [host for host in WORKERS
                if host in serving and not any(host == busy for _, _, busy in self.under_way)]
        return self.rng.choice(free) if free else None

    def kill_worker(self):
        host = self.worker()
        if host is None:
            return None, None
        self.nodes.workers[host].kill()
        return host, None

    def kill_router(self):
        self.nodes.router.kill()
        return "router", None

    def freeze(self):
        host = self.worker()
        if host is None:
            return None, None
        node = self.nodes.workers[host]
        node.signal(signal.SIGSTOP)
        return host, lambda: node.signal(signal.SIGCONT)

    def cut_router(self):
        host = self.rng.choice(WORKERS)
        return self.cut("router", host)

    def cut_pair(self):
        return self.cut(*self.rng.choice(PAIRS))

    def cut(self, one, other):
        self.network.partition(one, other)
        return other, lambda: self.network.heal(one, other)

    def lose(self):
        host, share = self.rng.choice(HOSTS), self.rng.uniform(0.01, 0.1)
        self.network.lose(host, share)
        return host, lambda: self.network.lose_no_more(host, share)

    def thin(self):
        host = self.rng.choice(WORKERS)
        self.network.slow_down(host, self.rng.choice([2, 10, 50]))
        return host, lambda: self.network.full_speed(host)

    def strangers(self):
        host = self.rng.choice(WORKERS)
        crowd = []
        for port in (CONTROL_PORT, ADMIN_PORT, KV_PORT):
            for _ in range(MAX_FILES):
                crowd.append(socket.socket())
                crowd[-1].setblocking(False)
                crowd[-1].connect_ex((self.nodes.workers[host].address, port))

        def end():
            for stranger in crowd:
                stranger.close()
        return host, end

    def memory(self):
        host = self.worker()
        if host is None:
            return None, None
        node = self.nodes.workers[host]
        node.may_end()  # a process without memory may end
        return self.limited(node, resource.RLIMIT_AS, lambda: node.address_space() + (16 << 20))

    @staticmethod
    def limited(node, what, most):
        try:
            before = node.limit(what, most())
        except (OSError, ProcessLookupError):  # it has just been killed
            return None, None
        pid = node.pid

        def end():
            if node.alive() and node.pid == pid:
                node.unlimit(what, before)
        return node.host, end

    def disk(self):
        filler = os.path.join(self.logs, "filler")
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass

        def end():
            for name in os.listdir(self.logs):
                os.truncate(os.path.join(self.logs, name), 0)
            os.remove(filler)
        return "all", end

    def leave(self):
        self.load.leave_storm(20, self.rng)
        return "clients", None

    # ---- the run

    def run(self):
        rng, options = self.rng, self.options
        bodies = [{**body, "max_tokens": 40 + body["max_tokens"]}
                  for body in mixed_requests(options.seed, options.bodies)]
        self.load = Load(self.nodes.router.address, HTTP_PORT, bodies,
                         self.nodes.known_answers(bodies), options.clients, options.seed)
        before = self.holdings_once_all_have_met(len(bodies))
        self.load.start()
        began = time.monotonic()
        for number in range(options.faults):
            last = time.monotonic() if options.apart else began + number / options.rate
            self.wait_until_time(last + 1 / options.rate)
            kind = rng.choices(self.kinds, [each.weight for each in self.kinds])[0]
            if kind.name == "log disk full" and any(host == "all" for _, _, host in self.under_way):
                continue
            host, end = kind.begin()
            if host is None:
                continue
            now = time.monotonic()
            self.done.append((now, kind.name, host))
            if end is not None:
                self.under_way.append((now + rng.uniform(*kind.seconds), end, host))
            if options.verbose:
                print(f"{now - began:8.2f} s  {kind.name}: {host}", flush=True)
            if options.apart:
                self.whole_after[kind.name].append(self.whole_again(now))
        self.wait_until_time(time.monotonic() + 6.1)  # all are over by then
        problems = []
        whole_s = self.nodes.wait_whole(60)
        print(f"whole again {whole_s:.1f} s after the last fault was over")
        if not self.load.stop():
            problems.append("a client waits for ever")
        for index, outcome in enumerate(
                in_parallel(self.load.stream, range(len(bodies)), options.clients)):
            if outcome.kind != "answer":
                problems.append(f"after all is healed: request {index}: {outcome}")
        problems += self.judge(before)
        return problems

    def whole_again(self, since):
        """Waits until the last fault is over and all workers are in service; s after `since`."""
        if self.under_way:
            self.wait_until_time(max(end_time for end_time, _, _ in self.under_way))
        wait_until(lambda: not any(node.killed() for node in self.nodes.all.values()), 30,
                   "the keeper has started again what was killed")
        self.nodes.wait_whole(60)
        return time.monotonic() - since

    def wait_until_time(self, at):
        """Meanwhile ends the faults that are over."""
        while True:
            now = time.monotonic()
            over = [each for each in self.under_way if each[0] <= now]
            self.under_way = [each for each in self.under_way if each[0] > now]
            for _, end, _ in over:
                end()
            if now >= at:
                return
            nearest = min([at] + [each[0] for each in self.under_way])
            time.sleep(max(0.0, nearest - now))  # the schedule's clock, not a synchronisation

    # ---- the verdict

    def judge(self, before):
        problems = []
        counts = collections.Counter(outcome.kind for outcome in self.load.outcomes)
        print("requests:", ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
        errors = collections.Counter(outcome.detail.split(": ")[-1]
                                     for outcome in self.load.outcomes if outcome.kind == "error")
        print("typed errors:", ", ".join(f"{count} {code}" for code, count in errors.items()) or "none")
        if counts["answer"] < sum(counts.values()) / 4:
            problems.append("less than a quarter of the requests had their answer")
        router_deaths = [at for at, name, _ in self.done if name == "kill the router"]
        for outcome in self.load.outcomes:
            if outcome.kind == "wrong":
                problems.append(outcome.detail)
            if outcome.kind == "broken" and not any(
                    outcome.started - 20 < at < outcome.ended + 0.1 for at in router_deaths):
                problems.append(f"broken though the router lived: {outcome.detail}")
        for host, code, tail in self.nodes.unordered_ends:
            problems.append(f"{host} ended by itself with {code}:\n    " + "\n    ".join(tail))
        problems += self.leaks(before)
        self.print_effects()
        return problems

    def holdings(self):
        """What each process holds when it is idle."""
        held = {}
        for host, node in self.nodes.all.items():
            held[host] = {"descriptors": node.descriptors(), "threads": node.threads()}
        return held

    def holdings_once_all_have_met(self, bodies):
        """Every connection, thread and buffer is there before we count: a pair of workers connects
        with its first handoff, and those of a role that have met all hold as many descriptors."""
        for _ in range(20):
            in_parallel(self.load.stream, list(range(bodies)) * 2, self.options.clients)
            wait_until(lambda: not self.busy_blocks(), 20, "no KV block is held before the first fault")
            held = self.holdings()
            if all(len({held[host]["descriptors"] for host in held if host.startswith(role)}) == 1
                   for role in ("prefill", "decode")):
                return held
        raise AssertionError(f"workers of a role never held as many descriptors: {held}")

    def busy_blocks(self):
        return {f"{host} {series}": value for host, node in self.nodes.workers.items()
                for series, value in node.busy_blocks().items()}

    def leaks(self, before):
        problems = []
        try:
            wait_until(lambda: not self.busy_blocks(), 40, "no KV block is held")
        except AssertionError:
            problems.append(f"KV blocks held at rest: {self.busy_blocks()}")

        def surplus():
            return {f"{host} {what}": (count, before[host][what])
                    for host, held in self.holdings().items() for what, count in held.items()
                    if count > before[host][what] + self.options.spare}
        try:
            wait_until(lambda: not surplus(), 40, "as many descriptors and threads as before")
        except AssertionError:
            problems.append(f"held at rest, (now, before): {surplus()}")
        return problems

    def print_effects(self):
        """How long the streams that a fault found open stood still, of those that came through."""
        def figure(values, share):
            return f"{values[min(len(values) - 1, int(share * len(values)))]:.2f} s" if values else "-"

        pauses, lost = collections.defaultdict(list), collections.Counter()
        totals = collections.Counter(name for _, name, _ in self.done)
        for at, name, _ in self.done:
            for outcome in self.load.outcomes:
                if not outcome.started < at < outcome.ended:
                    continue
                if outcome.kind in ("error", "broken"):
                    lost[name] += 1
                if outcome.kind != "answer":
                    continue
                times = [outcome.started] + outcome.token_times
                pauses[name].append(max(
                    (late - early for early, late in zip(times, times[1:])
                     if late > at and early < at + PAUSE_WINDOW_S), default=0))
        print(f"\n{'fault':42}{'times':>6}{'streams hit':>13}{'lost':>6}{'pause p50':>11}{'p99':>8}{'max':>8}"
              f"{'whole after p50':>17}{'max':>8}")
        for name, count in totals.most_common():
            of, whole = sorted(pauses[name]), sorted(self.whole_after[name])
            print(f"{name:42}{count:6}{len(of) + lost[name]:13}{lost[name]:6}{figure(of, 0.5):>11}"
                  f"{figure(of, 0.99):>8}{figure(of, 1):>8}{figure(whole, 0.5):>17}{figure(whole, 1):>8}")


def main():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--rate", type=float, default=1.2, help="faults a second")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--bodies", type=int, default=60, help="different requests")
    parser.add_argument("--spare", type=int, default=4, help="descriptors and threads that come and go")
    parser.add_argument("--transport", default="tcp", choices=["tcp", "shm"],
                        help="of KV; shm: all on one host, without faults of links")
    parser.add_argument("--without", action="append", default=[], metavar="FAULT",
                        help="leave this kind out")
    parser.add_argument("--apart", action="store_true",
                        help="each fault when the one before is over and all workers are in service")
    parser.add_argument("--verbose", action="store_true", help="print each fault")
    parser.add_argument("--keep-logs", metavar="DIR", help="copy the processes' logs there")
    options = parser.parse_args()
    net.enter()
    print(f"seed {options.seed}, {options.faults} faults, {options.rate:g} a second")
    with tempfile.TemporaryDirectory(prefix="baton-chaos-") as logs:
        # A small disk of its own, to be filled.
        net.sh("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", logs)
        try:
            place = net.OneHost if options.transport == "shm" else net.Network
            with place(HOSTS) as network, Nodes(network, logs, 2, 2, options.transport) as nodes:
                campaign = Campaign(options, network, nodes, logs)
                problems = campaign.run()
        finally:
            if options.keep_logs:
                shutil.copytree(logs, options.keep_logs, dirs_exist_ok=True)
            net.sh("umount", "-l", logs)
    for problem in problems[:20]:
        print("PROBLEM", problem)
    print(f"{len(campaign.done)} faults, {len(problems)} problems")
    return 0 if not problems else 1


if __name__ == "__main__":
    sys.exit(main())
