"""The campaign of tests/chaos and its soak in short: a minute of faults against real clusters."""

import os
import re
import subprocess
import sys

import pytest
from cluster import ROOT

SECONDS = {"tcp": 40, "shm": 20}
RATE = 1.2
SOAK_S = 25

# All that the campaign asks of the machine.
PROBE = """set -e
mount -t tmpfs tmpfs /run
ip netns add probe
ip link add x type veth peer name y netns probe
iptables -w -A INPUT -m statistic --mode random --probability 0.1 -j DROP
tc qdisc replace dev x root tbf rate 2mbit burst 16kb latency 2s
"""


def lacks():
    """What keeps the campaign from running here; empty: nothing."""
    if os.geteuid() != 0:
        return "needs root"
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh",
                            "-c", PROBE], capture_output=True, text=True, check=False)
    return "" if probe.returncode == 0 else f"no network namespaces: {probe.stderr.strip()[-200:]}"


LACKS = lacks()


@pytest.mark.skipif(LACKS != "", reason=LACKS)
@pytest.mark.parametrize("transport", SECONDS)
def test_a_cluster_under_faults_answers_right_or_not_at_all(transport):
    faults = round(SECONDS[transport] * RATE)
    run = subprocess.run([sys.executable, ROOT / "tests/chaos/campaign.py", f"--faults={faults}",
                          f"--rate={RATE}", "--seed=7", f"--transport={transport}", "--verbose"],
                         capture_output=True, text=True, timeout=420, check=False)
    print(run.stdout[-8000:], run.stderr[-4000:])
    done, problems = map(int, re.fullmatch(r"(\d+) faults, (\d+) problems",
                                           run.stdout.splitlines()[-1]).groups())
    assert problems == 0 and run.returncode == 0
    assert done > faults / 2


@pytest.mark.skipif(LACKS != "", reason=LACKS)
def test_survivors_of_deaths_hold_no_more_than_before():
    # Memory is judged over hours: here caches still fill.
    run = subprocess.run([sys.executable, ROOT / "tests/chaos/soak.py", f"--seconds={SOAK_S}",
                          "--kill-every=4", "--sample-every=1", "--bodies=30", "--warm-up=0.2",
                          "--most-growth=15", "--think=0.2"],
                         capture_output=True, text=True, timeout=300, check=False)
    print(run.stdout[-8000:], run.stderr[-4000:])
    kills, requests, problems = map(int, re.fullmatch(
        r"\d+ s, (\d+) kills, (\d+) requests, (\d+) problems", run.stdout.splitlines()[-1]).groups())
    assert problems == 0 and run.returncode == 0
    assert kills >= 4 and requests > 100
