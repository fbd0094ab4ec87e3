"""Workers whose GPUs are emulated on the host: the same executable, another device.

What it shows is how processes work together around a device: KV that goes through pinned memory,
workers of both kinds in a cluster, a device that breaks or hangs. Its numbers mean nothing.
"""

import json
import pathlib
import re
import subprocess

import pytest
from cluster import BATON, ROOT, Cluster, in_parallel, wait_until
from mixed_requests import answer, mixed_requests

EMULATED = BATON.parent / "tests/baton_emulated_cuda"
SEED = 20261123
# The emulation is slow: small steps, few tokens.
SMALL = ["--kv-blocks=256", "--batch-max-tokens=96", "--batch-max-sequences=8", "--calibrate=off"]
HANDOFF_ALWAYS = "--conditional-disaggregation=off"


def gpus(*arguments, **settings):
    return Cluster("--device=cuda", *SMALL, *arguments, binary=EMULATED, **settings)


@pytest.fixture(scope="module")
def requests():
    print(f"seed {SEED}")
    bodies = mixed_requests(SEED, 8)
    for body in bodies:
        body["max_tokens"] = min(body["max_tokens"], 6)
        body["prompt"] = body["prompt"][:300]
    return bodies


@pytest.fixture(scope="module")
def expected(requests):
    """By one worker, one request at a time."""
    with gpus(colocated=True) as cluster:
        return [answer(cluster.complete(body)) for body in requests]


def staged_bytes(cluster, worker, side):
    series = f'baton_kv_staged_bytes_total{{side="{side}",worker="{worker}"}}'
    metrics = cluster.metrics(worker)
    found = [value for name, value in metrics.items()
             if name.startswith("baton_kv_staged_bytes_total") and f'side="{side}"' in name]
    assert found, f"no {series}"
    return sum(found)


def test_handoffs_between_gpus_answer_as_one_worker(requests, expected):
    with gpus(HANDOFF_ALWAYS, "--device-memory=0.3") as cluster:
        bodies = [{**body, "timings": True} for body in requests]
        responses = in_parallel(cluster.complete, bodies, 4)
        assert [answer(response) for response in responses] == expected
        moved = sum(response["timings"]["kv_bytes"] for response in responses)
        assert moved > 0
        assert staged_bytes(cluster, "prefill-0", "send") == moved
        assert staged_bytes(cluster, "decode-0", "receive") == moved
        assert len(cluster.events("KV handoffs go through host memory")) == 2


def test_doctor_tells_of_the_device_and_the_way_that_kv_takes():
    shown = subprocess.run([str(EMULATED), "doctor"], capture_output=True, text=True, timeout=60,
                           check=True).stdout
    assert "emulated on the host, compute capability 9.0" in shown
    assert re.search(r"KV path +through pinned host memory: \S+ GB/s out, \S+ GB/s in", shown)


def switch(cluster, worker, prefix):
    pathlib.Path(f"{prefix}{cluster.workers()[worker]['pid']}").touch()


def fault_under_load(cluster, requests, expected, worker, fault):
    """All requests, with `fault` before the fourth; every answer is right. Waits for a restart."""
    victim = cluster.workers()[worker]["pid"]
    done = []
    faults = [fault]

    def run(body):
        if len(done) >= 3 and faults:
            faults.pop()()
        response = cluster.complete(body)
        done.append(body)
        return answer(response)

    assert in_parallel(run, requests, 2) == expected
    wait_until(lambda: cluster.workers()[worker]["pid"] != victim, 30, "a restart")


@pytest.mark.parametrize("worker", ["prefill-0", "decode-0"])
def test_a_device_that_breaks_takes_its_worker_down_and_no_answer_is_wrong(
        tmp_path, requests, expected, worker):
    prefix = tmp_path / "breaks."
    environment = {"EMULATED_CUDA_BREAKS": str(prefix)}
    with gpus(HANDOFF_ALWAYS, prefill=2, decode=2, extra_environment=environment) as cluster:
        fault_under_load(cluster, requests, expected, worker,
                         lambda: switch(cluster, worker, prefix))
        assert any("cudaErrorLaunchFailure" in str(line.get("status"))
                   for line in cluster.events("the engine broke"))


def test_a_device_that_hangs_is_noticed_by_its_step(tmp_path, requests, expected):
    prefix = tmp_path / "hangs."
    environment = {"EMULATED_CUDA_HANGS": str(prefix)}
    with gpus(HANDOFF_ALWAYS, "--step-timeout=8s", prefill=2,
              extra_environment=environment) as cluster:
        fault_under_load(cluster, requests, expected, "prefill-0",
                         lambda: switch(cluster, "prefill-0", prefix))
        assert cluster.events("a step hangs")


def test_the_measurement_on_one_gpu_runs(tmp_path):
    figures = tmp_path / "figures.json"
    done = subprocess.run([ROOT / "bench/gpu_cluster.py", "--quick", "--baton", EMULATED, "--out",
                           figures], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["answers"]["handed_over"] == found["answers"]["requests"] == 6
    assert {row["arm"] for row in found["load"]} == {"disaggregated", "colocated"}
