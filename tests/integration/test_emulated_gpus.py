"""Workers whose GPUs are emulated on the host: the same executable, another device.

What it shows is how processes work together around a device: KV that goes through pinned memory,
or that UCX takes from the device's own, which is the host's to it; workers of both kinds in a
cluster, and of several devices; a device that breaks or hangs. Its numbers mean nothing.
"""

import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from cluster import BATON, DEMO, ROOT, Cluster, in_parallel, wait_until
from mixed_requests import answer, mixed_requests
from processes import Process, get, post

EMULATED = BATON.parent / "tests/baton_emulated_cuda"
SEED = 20261123
# The emulation is slow: small steps, few tokens.
SMALL = ["--kv-blocks=256", "--batch-max-tokens=96", "--batch-max-sequences=8", "--calibrate=off",
         "--tune-products=false"]
HANDOFF_ALWAYS = "--conditional-disaggregation=off"
TWO_GPUS = {"EMULATED_CUDA_DEVICES": "2"}


ONE_ORDER = "EMULATED_CUDA_ONE_ORDER"


@pytest.fixture(scope="module", autouse=True)
def products_of_one_order():
    """Answers are compared that were computed beside others and alone: without --batch-invariant
    that needs an emulated library whose sums do not depend on the number of rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ONE_ORDER, "1")
        yield


def gpus(*arguments, device="cuda", warm_up=False, **settings):
    return Cluster(f"--device={device}", f"--warm-up={str(warm_up).lower()}", *SMALL, *arguments,
                   binary=EMULATED, **settings)


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


@pytest.fixture(scope="module")
def expected_of_two(requests):
    """By one worker of two GPUs, one request at a time."""
    with gpus("--tensor-parallel=2", colocated=True, extra_environment=TWO_GPUS) as cluster:
        return [answer(cluster.complete(body)) for body in requests]


def started_at(pid):
    """In seconds since the system's start."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def test_workers_of_one_gpu_start_in_turns():
    """Else each would be measured beside the other's start."""
    with gpus() as cluster:
        workers = cluster.workers()
        up = cluster.events("worker started")[0]
        assert up["worker"] == "prefill-0"
        now, clock = datetime.datetime.now(datetime.timezone.utc), time.clock_gettime(
            time.CLOCK_BOOTTIME)
        ago = (now - datetime.datetime.fromisoformat(up["time"].replace("Z", "+00:00")))
        # The log has milliseconds, the kernel hundredths.
        assert started_at(workers["decode-0"]["pid"]) > clock - ago.total_seconds() - 0.03


DIRECT, STAGED = "baton_kv_direct_bytes_total", "baton_kv_staged_bytes_total"


def bytes_by(way, metrics, side):
    found = [value for name, value in metrics.items()
             if name.startswith(way) and f'side="{side}"' in name]
    assert len(found) == 1, f"{way} of {side}: {found}"
    return found[0]


@pytest.mark.parametrize("transport", ["shm", "tcp"])
@pytest.mark.parametrize("buffers, way, other", [("cuda", DIRECT, STAGED), ("cpu", STAGED, DIRECT)])
def test_handoffs_between_gpus_answer_as_one_worker(requests, expected, buffers, way, other,
                                                    transport):
    with gpus(HANDOFF_ALWAYS, "--device-memory=0.3", f"--kv-buffer-device={buffers}",
              f"--kv-transport={transport}") as cluster:
        bodies = [{**body, "timings": True} for body in requests]
        responses = in_parallel(cluster.complete, bodies, 4)
        assert [answer(response) for response in responses] == expected
        moved = sum(response["timings"]["kv_bytes"] for response in responses)
        assert moved > 0
        for worker, side in (("prefill-0", "send"), ("decode-0", "receive")):
            metrics = cluster.metrics(worker)
            assert bytes_by(way, metrics, side) == moved
            assert bytes_by(other, metrics, side) == 0
        staged = cluster.events("KV handoffs go through host memory")
        direct = cluster.events("KV handoffs go from and to GPU memory")
        assert [len(staged), len(direct)] == ([0, 2] if way == DIRECT else [2, 0])


@pytest.mark.parametrize("sender, receiver", [("cuda", "cpu"), ("cpu", "cuda")])
def test_two_gpus_need_not_agree_on_the_way(requests, expected, sender, receiver):
    processes = []

    def start(words, **options):
        processes.append(Process(words, **options))
        return processes[-1]

    try:
        workers = {}
        for role, buffers in (("prefill", sender), ("decode", receiver)):
            workers[role] = start(
                ["worker", "--role", role, "--id", f"{role}-0", "--model", str(DEMO),
                 "--control-port=0", "--device=cuda", "--device-memory=0.3", *SMALL,
                 f"--kv-buffer-device={buffers}"], binary=EMULATED)
        addresses = ",".join(f"127.0.0.1:{worker.ports[0]}" for worker in workers.values())
        router = start(["router", "--model", str(DEMO), "--workers", addresses, "--port=0",
                        HANDOFF_ALWAYS])
        router.wait_ready()
        for body, right in zip(requests, expected):
            status, _, response = post(router.ports[0], body)
            assert status == 200 and answer(response) == right
        for role, buffers, side in (("prefill", sender, "send"), ("decode", receiver, "receive")):
            text = get(workers[role].ports[1], "/metrics")[1]
            found = {match[1]: float(match[2])
                     for match in re.finditer(r"^(baton_\S+?(?:\{.*\})?) (\S+)$", text, re.M)}
            assert bytes_by(DIRECT if buffers == "cuda" else STAGED, found, side) > 0
    finally:
        for process in reversed(processes):
            process.close()


def answers_and_bytes(cluster, requests):
    responses = in_parallel(cluster.complete, [{**body, "timings": True} for body in requests], 4)
    return ([answer(response) for response in responses],
            sum(response["timings"]["kv_bytes"] for response in responses))


# Whether the GPUs reach one another's memory, and what is said of it.
APART = {"EMULATED_CUDA_WITHOUT_PEERS": "1"}
NO_ACCESS = "cuda:0 does not reach the memory of cuda:1, no peer access:"
LYING = {"EMULATED_CUDA_PEERS_LOSE_WRITES": "1"}
OTHER_BYTES = "cuda:0 does not reach the memory of cuda:1, peer access is offered, but other bytes"


@pytest.mark.parametrize("buffers, peers, way, said",
                         [("cuda", {}, DIRECT, None), ("auto", APART, STAGED, NO_ACCESS),
                          ("auto", LYING, STAGED, OTHER_BYTES)])
def test_handoffs_between_workers_of_two_gpus_answer_as_one_of_two(requests, expected_of_two,
                                                                   buffers, peers, way, said):
    with gpus(HANDOFF_ALWAYS, "--tensor-parallel=2", f"--kv-buffer-device={buffers}",
              extra_environment={**TWO_GPUS, **peers}) as cluster:
        answers, moved = answers_and_bytes(cluster, requests)
        assert answers == expected_of_two
        assert bytes_by(way, cluster.metrics("prefill-0"), "send") == moved > 0
        assert bytes_by(way, cluster.metrics("decode-0"), "receive") == moved
        assert len(cluster.ranks("prefill-0")) == len(cluster.ranks("decode-0")) == 1
        staged = cluster.events("KV handoffs go through host memory")
        assert len(staged) == (2 if way == STAGED else 0)
        for event in staged:
            assert said in str(event)


@pytest.mark.parametrize("peers, reason", [(APART, NO_ACCESS), (LYING, OTHER_BYTES)])
def test_gpus_that_do_not_reach_one_another_are_refused_if_nothing_else_will_do(peers, reason):
    done = subprocess.run([EMULATED, "worker", "--model", DEMO, "--device=cuda", *SMALL,
                           "--tensor-parallel=2", "--kv-buffer-device=cuda", "--control-port=0"],
                          capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, **TWO_GPUS, **peers})
    assert done.returncode == 1
    assert reason in done.stderr


def alone_and_at_once(cluster, requests):
    def ask(body):
        return answer(cluster.complete(body))

    return [ask(body) for body in requests], in_parallel(ask, requests, 8)


def test_without_batch_invariance_answers_depend_on_load(requests, monkeypatch):
    """As the emulated library adds in another order for another number of rows."""
    monkeypatch.delenv(ONE_ORDER)
    with gpus(colocated=True) as cluster:
        alone, at_once = alone_and_at_once(cluster, [{**body, "logprobs": 1} for body in requests])
    assert alone != at_once


@pytest.mark.parametrize("count", [1, 2])
def test_batch_invariant_answers_depend_neither_on_load_nor_on_handoffs(requests, monkeypatch,
                                                                        count):
    monkeypatch.delenv(ONE_ORDER)
    monkeypatch.setenv("EMULATED_CUDA_DEVICES", str(count))
    requests = [{**body, "logprobs": 1} for body in requests[:8 // count]]
    mode = ["--batch-invariant", f"--tensor-parallel={count}"]
    with gpus(*mode, colocated=True) as cluster:
        alone, at_once = alone_and_at_once(cluster, requests)
        assert at_once == alone
    with gpus(HANDOFF_ALWAYS, *mode) as cluster:
        answers, moved = answers_and_bytes(cluster, requests)
        assert answers == alone
        assert bytes_by(DIRECT, cluster.metrics("decode-0"), "receive") == moved > 0


@pytest.mark.parametrize("count", [1, 2])
def test_steps_begin_before_the_tokens_of_the_one_before_are_known(requests, expected,
                                                                   expected_of_two, monkeypatch,
                                                                   count):
    monkeypatch.setenv("EMULATED_CUDA_DEVICES", str(count))
    right = expected if count == 1 else expected_of_two
    ranks = f"--tensor-parallel={count}"

    def steps_ahead(cluster, worker):
        (steps,) = [value for name, value in cluster.metrics(worker).items()
                    if name.startswith("baton_steps_ahead_total")]
        return steps

    with gpus(HANDOFF_ALWAYS, ranks, warm_up=True) as cluster:
        assert [line["process"] for line in cluster.events("decode steps captured")] == ["decode-0"]
        assert [answer(cluster.complete(body)) for body in requests] == right
        assert steps_ahead(cluster, "decode-0") > 0
        assert steps_ahead(cluster, "prefill-0") == 0
    with gpus("--async-scheduling=false", ranks, colocated=True) as cluster:
        assert [answer(cluster.complete(body)) for body in requests] == right
        assert steps_ahead(cluster, "both-0") == 0


def flag(cluster, worker, name):
    words = pathlib.Path(f"/proc/{cluster.workers()[worker]['pid']}/cmdline").read_text().split("\0")
    (value,) = [word.split("=")[1] for word in words if word.startswith(f"--{name}=")]
    return value


# The workers' GPUs are 0 and 1, and 1; or 0, and 1 and 2. Four have two copies of each KV head.
@pytest.mark.parametrize("prefill, decode, memory",
                         [(2, 1, "0.45"), (1, 2, "0.9"), (4, 1, "0.45"), (1, 4, "0.9")])
def test_workers_of_other_degrees_go_on_with_one_anothers_kv(
        requests, expected, expected_of_two, prefill, decode, memory):
    """Sums over devices round differently; the demo model's greedy tokens bear it."""
    greedy = [i for i, body in enumerate(requests) if body.get("temperature", 0) == 0]
    assert len(greedy) >= 2
    assert [expected[i] for i in greedy] == [expected_of_two[i] for i in greedy]
    with gpus(HANDOFF_ALWAYS, f"--prefill-tensor-parallel={prefill}",
              f"--decode-tensor-parallel={decode}", device="cuda:0,cuda:1",
              extra_environment={"EMULATED_CUDA_DEVICES": "5"}) as cluster:
        assert [flag(cluster, worker, "device-memory")
                for worker in ("prefill-0", "decode-0")] == [memory, memory]
        answers, moved = answers_and_bytes(cluster, requests)
        assert [answers[i] for i in greedy] == [expected[i] for i in greedy]
        assert bytes_by(DIRECT, cluster.metrics("prefill-0"), "send") == moved > 0
        assert bytes_by(DIRECT, cluster.metrics("decode-0"), "receive") == moved


def greedy_of(requests, answers):
    return [answers[i] for i, body in enumerate(requests) if body.get("temperature", 0) == 0]


# int4 has int8 logits, which are the embedding too.
@pytest.mark.parametrize("weights", ["int4", "fp8"])
def test_two_gpus_share_weights_of_fewer_bits(requests, weights):
    # A step of the emulated fp8 takes long.
    requests = [{**body, "prompt": body["prompt"][:48]} for body in requests]
    flags = [f"--weights={weights}", "--device-memory=0.45"]
    two = ["--tensor-parallel=2", *flags]
    with gpus(*two, colocated=True, extra_environment=TWO_GPUS) as cluster:
        of_two = [answer(cluster.complete(body)) for body in requests]
        assert any(f"weights {weights}, KV bf16" in line for line in cluster.stderr)
    with gpus(HANDOFF_ALWAYS, *two, extra_environment=TWO_GPUS) as cluster:
        answers, moved = answers_and_bytes(cluster, requests)
        assert answers == of_two
        assert bytes_by(DIRECT, cluster.metrics("decode-0"), "receive") == moved > 0
    if weights == "fp8":
        return  # its ranks round their parts of an input apart
    with gpus(*flags, colocated=True) as cluster:
        alone = [answer(cluster.complete(body)) for body in requests]
    assert greedy_of(requests, of_two) == greedy_of(requests, alone) != []


def test_too_few_gpus_are_an_error_that_says_what_to_do():
    done = subprocess.run([EMULATED, "worker", "--model", ROOT / "models/demo", "--device=cuda",
                           "--tensor-parallel=2"], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1
    assert "2 ranks from cuda:0 on need cuda:1; there are 1 CUDA devices" in done.stderr
    assert "lower tensor_parallel" in done.stderr


def test_doctor_tells_of_the_device_and_the_way_that_kv_takes():
    shown = subprocess.run([str(EMULATED), "doctor"], capture_output=True, text=True, timeout=60,
                           check=True).stdout
    assert "emulated on the host, compute capability 9.0" in shown
    assert re.search(r"KV path +from and to the device's memory", shown)
    assert re.search(r"cpu through pinned host memory: \S+ GB/s out, \S+ GB/s in", shown)
    assert re.search(r"UCX \d+\.\d+\.\d+, built against \d+\.\d+;", shown)


@pytest.mark.parametrize("apart, way", [({}, "direct"), (APART, "through the host")])
def test_doctor_tells_how_two_gpus_reach_one_another(apart, way):
    shown = subprocess.run([str(EMULATED), "doctor"], capture_output=True, text=True, timeout=60,
                           check=True, env={**os.environ, **TWO_GPUS, **apart}).stdout
    assert re.search(rf"GB/s from cuda:0, {way}", shown)
    assert ("a worker on both comes together in host memory" in shown) == bool(apart)


def switch(cluster, worker, prefix):
    pathlib.Path(f"{prefix}{cluster.workers()[worker]['pid']}").touch()


def fault_under_load(cluster, requests, expected, worker, fault):
    """All requests, with `fault` before the fourth, and again until the worker, which has to be
    given something to do to meet it, has been restarted; every answer is right."""
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

    def restarted():
        if cluster.workers()[worker]["pid"] != victim:
            return True
        assert in_parallel(run, requests, 4) == expected
        return False

    wait_until(restarted, 90, "a restart")


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


@pytest.mark.parametrize("fault, event", [
    ("killed", "the group is broken"),
    ("breaks", "the group is broken"),
    ("hangs", "a step hangs"),
])
def test_a_rank_that_fails_takes_its_worker_down_and_no_answer_is_wrong(
        tmp_path, requests, expected_of_two, fault, event):
    environment = {**TWO_GPUS, "EMULATED_CUDA_BREAKS": str(tmp_path / "breaks."),
                   "EMULATED_CUDA_HANGS": str(tmp_path / "hangs.")}
    with gpus(HANDOFF_ALWAYS, "--tensor-parallel=2", "--step-timeout=8s", decode=2,
              extra_environment=environment) as cluster:
        (rank,) = cluster.ranks("decode-0")

        def fail():
            if fault == "killed":
                os.kill(rank, signal.SIGKILL)
            else:
                (tmp_path / f"{fault}.{rank}").touch()

        fault_under_load(cluster, requests, expected_of_two, "decode-0", fail)
        assert cluster.events(event)


@pytest.mark.parametrize("worker", ["prefill-0", "decode-0"])
def test_a_device_that_hangs_is_noticed_by_its_step(tmp_path, requests, expected, worker):
    prefix = tmp_path / "hangs."
    environment = {"EMULATED_CUDA_HANGS": str(prefix)}
    with gpus(HANDOFF_ALWAYS, "--step-timeout=8s", prefill=2, decode=2,
              extra_environment=environment) as cluster:
        fault_under_load(cluster, requests, expected, worker,
                         lambda: switch(cluster, worker, prefix))
        # Whichever was under way for longer.
        assert cluster.events("a step hangs") or cluster.events("a KV copy hangs")


@pytest.mark.parametrize("variable, event", [("EMULATED_CUDA_HANGS", "a KV copy hangs"),
                                             ("EMULATED_CUDA_FAILS_COPIES", "the engine broke")])
def test_a_kv_copy_that_goes_wrong_ends_its_worker_though_it_computes_nothing(
        tmp_path, requests, expected, variable, event):
    prefix = tmp_path / "switch."
    # Through the host's memory a copy is one of the device's copy engines, which may refuse it.
    with gpus(HANDOFF_ALWAYS, "--step-timeout=3s", "--kv-buffer-device=cpu",
              extra_environment={variable: str(prefix)}) as cluster:
        victim = cluster.workers()["decode-0"]["pid"]
        switch(cluster, "decode-0", prefix)
        # No other worker can go on with it: an error is right, too.
        status, _, data = cluster.request("POST", "/v1/completions", requests[0], timeout=120)
        assert status == 503 or answer(json.loads(data)) == expected[0]
        wait_until(lambda: cluster.workers()["decode-0"]["pid"] != victim, 30, "a restart")
        assert cluster.events(event)


def test_the_measurement_on_one_gpu_runs(tmp_path, monkeypatch):
    monkeypatch.delenv(ONE_ORDER)
    figures = tmp_path / "figures.json"
    done = subprocess.run([ROOT / "bench/gpu_cluster.py", "--quick", "--baton", EMULATED, "--out",
                           figures], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    answers = found["answers"]
    assert answers["handed_over"] == answers["at_once"] == answers["requests"] == 6
    assert {row["arm"] for row in found["load"]} == {"disaggregated", "colocated",
                                                   "synchronous"}
