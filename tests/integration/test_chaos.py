"""The campaign of tests/chaos in short: 40 seconds of faults against a real cluster."""

import os
import re
import subprocess
import sys

import pytest
from cluster import ROOT

SECONDS = 40
RATE = 1.2


def can_make_networks():
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "x", "type", "veth"], capture_output=True,
        check=False).returncode == 0


@pytest.mark.skipif(not can_make_networks(), reason="needs root and network namespaces")
def test_a_cluster_under_faults_answers_right_or_not_at_all():
    faults = round(SECONDS * RATE)
    run = subprocess.run([sys.executable, ROOT / "tests/chaos/campaign.py", f"--faults={faults}",
                          f"--rate={RATE}", "--seed=7", "--verbose"], capture_output=True, text=True,
                         timeout=420, check=False)
    print(run.stdout[-8000:], run.stderr[-4000:])
    done, problems = map(int, re.fullmatch(r"(\d+) faults, (\d+) problems",
                                           run.stdout.splitlines()[-1]).groups())
    assert problems == 0 and run.returncode == 0
    assert done > faults / 2
