"""Clients that leave: nothing stays held on any worker."""

import random

import pytest
from cluster import Cluster, StreamError, in_parallel, wait_until
from mixed_requests import mixed_requests

SEED = 77
COUNT = 500
HELD = ("reserved", "landing", "sealed", "in_use", "quarantined")


@pytest.mark.parametrize("arguments", [["--conditional-disaggregation=off"], []],
                         ids=["always handed off", "short prompts in place"])
def test_half_of_500_requests_cancelled_at_random_points_leaves_no_block_held(arguments):
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    jobs = [(body, rng.randrange(0, 20) if rng.random() < 0.5 else None)
            for body in mixed_requests(SEED, COUNT)]

    with Cluster("--kv-blocks=400", "--batch-prefill-chunk=32", *arguments) as cluster:
        def run(job):
            body, leave_after = job
            try:
                events = cluster.stream(body)
                for count, _ in enumerate(events):
                    if leave_after is not None and count >= leave_after:
                        events.close()  # closes the connection
                        return "left"
            except StreamError as error:
                return error.error["code"]
            return "done"

        outcomes = in_parallel(run, jobs, 16)
        assert outcomes.count("left") > COUNT // 8
        assert set(outcomes) <= {"left", "done"}, set(outcomes)
        for worker in cluster.workers():
            wait_until(lambda w=worker: not any(cluster.blocks(w)[s] for s in HELD), 5,
                       f"{worker} holds {cluster.blocks(worker)}")
        # And it still answers.
        assert cluster.complete({"prompt": "Once upon a time", "max_tokens": 4})["choices"][0]["text"]
