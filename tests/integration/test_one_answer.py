"""Disaggregated = colocated = single-sequence: byte-identical answers, over real processes."""

import pytest
from cluster import Cluster, in_parallel
from mixed_requests import answer, mixed_requests

SEED = 20240817
COUNT = 200

HANDOFF_ALWAYS = "--conditional-disaggregation=off"

# name, cluster keywords, flags, expected transport, whether preemption must happen
ARMS = [
    ("shared memory, chunk 16, tight pool", {}, ["--kv-transport=shm", "--batch-prefill-chunk=16",
                                                 "--kv-blocks=96", HANDOFF_ALWAYS], "shm", True),
    ("tcp, chunk 512", {}, ["--kv-transport=tcp", "--batch-prefill-chunk=512",
                             HANDOFF_ALWAYS], "tcp", False),
    ("prompts in place, chunk 64", {}, ["--batch-prefill-chunk=64"], None, False),
    ("two and two, chunk 100", {"prefill": 2, "decode": 2}, ["--batch-prefill-chunk=100"], None,
     False),
    ("colocated, chunk 48, tight pool", {"colocated": True}, ["--batch-prefill-chunk=48",
                                                              "--kv-blocks=96"], None, True),
    ("colocated, whole prompts first", {"colocated": True}, ["--chunked-prefill=off",
                                                             "--kv-blocks=96"], None, True),
    ("colocated, 1 ms a token", {"colocated": True}, ["--slo-tpot-ms=1", "--slo-ttft-ms=100",
                                                      "--admission-mode=off"], None, False),
    ("paced decode, prompts in place", {}, ["--slo-tpot-ms=1", "--admission-mode=off"], None,
     False),
]


# Short prompts and long answers, sent first: together they need several times the blocks of a tight
# pool, whatever the machine's speed.
CROWD = [{"prompt": f"Story {index}: Once upon a time there was a", "max_tokens": 400,
          "ignore_eos": True, "temperature": 0.8, "seed": index, "return_token_ids": True}
         for index in range(16)]


@pytest.fixture(scope="module")
def requests():
    print(f"seed {SEED}")
    return CROWD + mixed_requests(SEED, COUNT)


@pytest.fixture(scope="module")
def expected(requests):
    """One request at a time, no prefix cache, whole prompts in one chunk."""
    with Cluster("--prefix-caching=false", "--batch-max-tokens=4096", "--batch-prefill-chunk=4096",
                 colocated=True) as cluster:
        return [answer(cluster.complete(body)) for body in requests]


@pytest.mark.parametrize("name, keywords, flags, transport, preempts", ARMS,
                         ids=[arm[0] for arm in ARMS])
def test_answers_are_byte_identical(requests, expected, name, keywords, flags, transport, preempts):
    with Cluster(*flags, **keywords) as cluster:
        responses = in_parallel(
            lambda body: cluster.complete({**body, "timings": True}), requests, 16)
        for index, response in enumerate(responses):
            assert answer(response) == expected[index], f"seed {SEED} request {index} ({name})"
            if transport and response["timings"]["kv_bytes"] > 0:
                assert response["timings"]["transport"] == transport
        if not keywords.get("colocated"):
            assert sum(r["timings"]["kv_bytes"] for r in responses) > 0
        workers = cluster.workers()
        totals = {}
        for worker in workers:
            for series, value in cluster.metrics(worker).items():
                name_only = series.split("{")[0]
                totals[name_only] = totals.get(name_only, 0) + value
        assert totals["baton_prefix_cache_hits_total"] > 0, "no prefix hit: the test proves less"
        if preempts:
            assert totals["baton_preemptions_total"] > 0, "no preemption: the test proves less"


@pytest.mark.parametrize("quantized", ["--weights=int8", "--weights=int4", "--kv-dtype=int8"])
def test_quantized_engines_give_one_answer_too(requests, quantized, tmp_path):
    """Weights packed anew or mapped from a file, KV read where it was made or handed over."""
    some = requests[:4] + requests[len(CROWD):len(CROWD) + 40]
    flags = [quantized, f"--packed-cache={tmp_path}"]
    with Cluster(*flags, "--prefix-caching=false", "--batch-max-tokens=4096",
                 "--batch-prefill-chunk=4096", colocated=True) as cluster:
        alone = [answer(cluster.complete(body)) for body in some]
    assert list(tmp_path.iterdir()), "no packed weights were written"
    with Cluster(*flags, "--kv-transport=tcp", "--batch-prefill-chunk=100", HANDOFF_ALWAYS) as cluster:
        together = in_parallel(cluster.complete, some, 16)
    for index, response in enumerate(together):
        assert answer(response) == alone[index], f"seed {SEED} request {index}"
