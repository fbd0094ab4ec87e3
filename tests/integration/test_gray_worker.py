"""A worker that answers, but has become slow (gray failure): out of service, and back."""

import contextlib
import json
import signal
import threading
import time

import pytest
from cluster import Cluster, in_parallel, wait_until
from mixed_requests import answer

pytestmark = pytest.mark.alone

VICTIM = "decode-0"
BODIES = [{"prompt": f"Story {index}: once upon a time there was a", "max_tokens": 300,
           "ignore_eos": True, "temperature": 0.8, "seed": index, "return_token_ids": True,
           "timings": True} for index in range(12)]


class Throttle:
    """Lets a process run for 30 ms of each 300 ms, as a CPU quota or a hot machine does."""

    def __init__(self, cluster, worker):
        self._cluster, self._worker = cluster, worker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over.is_set():
            self._cluster.kill(self._worker, signal.SIGSTOP)
            self._over.wait(0.27)
            self._cluster.kill(self._worker, signal.SIGCONT)
            self._over.wait(0.03)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


@contextlib.contextmanager
def traffic(cluster, expected):
    """Six clients that always wait for an answer. Yields the list of those that were wrong, and ends
    with all of them checked."""
    over, wrong, right = threading.Event(), [], []

    def client(first):
        for index in range(first, 1 << 30, 6):
            if over.is_set():
                return
            body = index % len(BODIES)
            status, _, data = cluster.request("POST", "/v1/completions", BODIES[body])
            if status == 200 and answer(json.loads(data)) == expected[body]:
                right.append(body)
            else:
                wrong.append((body, status, data[:300]))

    clients = [threading.Thread(target=client, args=(first,)) for first in range(6)]
    for each in clients:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in clients:
            each.join()
    assert not wrong, f"{len(wrong)} of {len(wrong) + len(right)}: {wrong[:3]}"
    print(f"{len(right)} answers, all right")


def standing(cluster):
    workers = json.loads(cluster.request("GET", "/cluster")[2])["workers"]
    return {worker["id"]: worker["standing"] for worker in workers}


def test_a_slow_worker_is_ejected_and_comes_back_when_it_is_quick_again():
    # Requests are not refused for the objectives that they miss on the way.
    with Cluster("--conditional-disaggregation=off", "--admission-mode=off", decode=2) as cluster:
        expected = [answer(each) for each in in_parallel(cluster.complete, BODIES, 6)]
        assert set(standing(cluster).values()) == {"in"}
        with traffic(cluster, expected):
            began = time.monotonic()
            with Throttle(cluster, VICTIM):
                wait_until(lambda: standing(cluster)[VICTIM] == "ejected", 25, "the ejection")
                ejected_after_s = time.monotonic() - began
                # The first probe is 5 s away.
                short = [{**body, "max_tokens": 8} for body in BODIES[:8]]
                took = in_parallel(cluster.complete, short, 4)
                if standing(cluster)[VICTIM] == "ejected":
                    assert {each["timings"]["decode_worker"] for each in took} == {"decode-1"}
                assert cluster.metrics()['baton_workers_ejected{role="decode"}'] == 1
            well_at = time.monotonic()
            wait_until(lambda: standing(cluster)[VICTIM] == "in", 40, "its return")
            print(f"ejected after {ejected_after_s:.1f} s, back "
                  f"{time.monotonic() - well_at:.1f} s after it was well")
            wait_until(lambda: any(cluster.complete(body)["timings"]["decode_worker"] == VICTIM
                                   for body in short), 20, "requests there")
        assert ejected_after_s < 20  # 15 s, and what a busy machine takes
        metrics = cluster.metrics()
        assert metrics['baton_workers_ejected{role="decode"}'] == 0
        assert metrics['baton_router_ejections_total{what="worker"}'] >= 1

        def notes():
            return [line["standing"] for line in cluster.events("worker standing")
                    if line["worker"] == VICTIM]

        wait_until(lambda: notes()[-1:] == ["in"], 10, "the log tells of its return")
        assert notes()[0] == "ejected" and "probing" in notes(), notes()
