"""Hosts on one machine: a network namespace each, joined by a bridge, with faults on their links.

Needs root. The program that uses it must itself be in namespaces of its own (see `enter`), of
network, mounts and processes: nothing touches the machine's network, and all of it goes with the
program, however that ends.
"""

import os
import subprocess
import sys

INSIDE = "BATON_CHAOS_INSIDE"
BRIDGE_ADDRESS = "10.77.0.1"


def sh(*words, check=True):
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def enter():
    """Goes on in new namespaces; returns there."""
    if os.environ.get(INSIDE):
        sh("mount", "-t", "tmpfs", "tmpfs", "/run")  # `ip netns` keeps its names there
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
                          "--mount-proc", sys.executable, *sys.argv])


def addresses_of(hosts):
    return {name: f"10.77.0.{10 + i}" for i, name in enumerate(hosts)}


class OneHost:
    """The addresses of a Network in one namespace: processes can share memory, links have no faults."""

    def __init__(self, hosts):
        self.hosts = addresses_of(hosts)

    def __enter__(self):
        sh("ip", "link", "set", "lo", "up")
        for address in self.hosts.values():
            sh("ip", "addr", "add", f"{address}/32", "dev", "lo")
        return self

    def __exit__(self, *_):
        for address in self.hosts.values():
            sh("ip", "addr", "del", f"{address}/32", "dev", "lo")

    def command(self, host, words):
        return list(words)


class Network:
    """A context manager: leaving it takes the namespaces away."""

    def __init__(self, hosts):
        self.hosts = addresses_of(hosts)
        self._cut = set()  # pairs of hosts

    def _namespace(self, host):
        return f"baton-{os.getpid()}-{host}"

    def __enter__(self):
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "switch", "type", "bridge")
        sh("ip", "addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", "switch")
        sh("ip", "link", "set", "switch", "up")
        for host, address in self.hosts.items():
            namespace = self._namespace(host)
            sh("ip", "netns", "add", namespace)
            sh("ip", "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns",
               namespace)
            sh("ip", "link", "set", f"to-{host}", "master", "switch", "up")
            self._in(host, "ip", "link", "set", "lo", "up")
            self._in(host, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
            self._in(host, "ip", "link", "set", "eth0", "up")
        return self

    def __exit__(self, *_):
        for host in self.hosts:
            sh("ip", "netns", "del", self._namespace(host), check=False)
        sh("ip", "link", "del", "switch", check=False)

    def command(self, host, words):
        """The command that runs `words` on the host."""
        return ["ip", "netns", "exec", self._namespace(host), *words]

    def _in(self, host, *words, check=True):
        return sh(*self.command(host, words), check=check)

    # ---- faults

    def partition(self, one, other):
        """Nothing passes between the two, in either direction, without a word to either."""
        for here, there in ((one, other), (other, one)):
            self._in(here, "iptables", "-w", "-I", "INPUT", "-s", self.hosts[there], "-j", "DROP")

    def heal(self, one, other):
        for here, there in ((one, other), (other, one)):
            self._in(here, "iptables", "-w", "-D", "INPUT", "-s", self.hosts[there], "-j", "DROP")

    def lose(self, host, share):
        """Drops that share of the packets that the host gets."""
        self._in(host, "iptables", "-w", "-I", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random",
                 "--probability", f"{share:.3f}", "-j", "DROP")

    def lose_no_more(self, host, share):
        self._in(host, "iptables", "-w", "-D", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random",
                 "--probability", f"{share:.3f}", "-j", "DROP")

    def slow_down(self, host, mbit):
        """What the host sends queues up behind a thin wire."""
        self._in(host, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", f"{mbit}mbit",
                 "burst", "16kb", "latency", "2s")

    def full_speed(self, host):
        self._in(host, "tc", "qdisc", "del", "dev", "eth0", "root", check=False)
