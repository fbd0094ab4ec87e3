"""`baton bench sweep`: starts its own clusters, measures, and says who wins."""

import json
import os
import re
import signal
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from cluster import BATON, ROOT

TINY = f"dummy:{ROOT}/bench/configs/tiny.json"
LAST_LINE = re.compile(r"^goodput_ratio unchunked=([0-9.]+|inf) chunked=([0-9.]+|inf)$")

needs_two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2,
                                    reason="each arm needs two CPUs")


def sweep(*arguments, **options):
    return subprocess.run([BATON, "bench", "sweep", *arguments], capture_output=True, text=True,
                          timeout=240, check=False, **options)


@needs_two_cpus
def test_compares_the_arms_and_ends_with_the_ratio(tmp_path):
    # Objectives that any machine meets at low rates, and a least rate soon too much for it: the
    # searches end by their time.
    run = sweep("--model", TINY, "--lengths", "fixed:64/8", "--slo", "400:40", "--chunks", "auto",
                "--point", "500ms", "--least-requests", "8", "--time-limit", "10s",
                "--json", tmp_path / "sweep.json", "--plots", tmp_path / "plots")
    assert run.returncode == 0, run.stderr
    assert LAST_LINE.match(run.stdout.splitlines()[-1]), run.stdout
    for arm in ("disaggregated", "unchunked", "chunked"):
        assert re.search(rf"^custom +{arm} ", run.stdout, re.M), run.stdout
    report = json.loads((tmp_path / "sweep.json").read_text())
    assert "bench sweep" in report["command"]
    (scenario,) = report["scenarios"]
    assert [arm["name"] for arm in scenario["arms"]] == ["disaggregated", "unchunked", "chunked"]
    measured = [run for arm in scenario["arms"] for setup in arm["setups"] for run in setup["runs"]]
    assert measured and all(0 <= run["good_share"] <= 1 for run in measured)
    assert any(run["good_share"] > 0 for run in measured)
    plots = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert plots == ["custom-attainment.svg"]
    ElementTree.parse(tmp_path / "plots" / plots[0])


def test_refuses_what_it_cannot_measure_before_it_starts(tmp_path):
    for arguments, words in [
        (["--preset", "qick"], "there are quick, prompt-heavy"),
        (["--preset", "azure-code"], "traces: not given"),
        (["--preset", "azure-code", "--traces", str(tmp_path)], "has no azure_code_2023.csv"),
        (["--lengths", "fixed:0"], "lengths"),
        (["--chunks", "7"], "chunked_prefill"),
        (["--cpus", "0"], "at least two"),
        (["--json", str(tmp_path / "no" / "sweep.json")], "json: cannot write"),
        (["--model", str(tmp_path / "none")], "does not exist"),
    ]:
        run = sweep(*arguments)
        assert run.returncode == 2, (arguments, run.stderr)
        assert words in run.stderr, (arguments, run.stderr)
        assert "Traceback" not in run.stderr


@needs_two_cpus
def test_a_signal_stops_it_and_its_clusters():
    process = subprocess.Popen([BATON, "bench", "sweep", "--model", TINY, "--lengths",
                                "fixed:64/8"], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "alone: TTFT" in line:
            break
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True,
                              check=False).stdout.split()
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)
