"""Workers of several processes: the answers of one process, whatever the degrees on both sides."""

import json
import os
import pathlib
import signal
import subprocess

import pytest
from cluster import BATON, DEMO, Cluster, in_parallel, wait_until
from mixed_requests import answer, mixed_requests

SEED = 20261122
HANDOFF_ALWAYS = "--conditional-disaggregation=off"

# Twice the KV heads of the demo model, so that four processes share them.
FOUR_KV_HEADS = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 96, "intermediate_size": 200,
    "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 24,
    "vocab_size": 515, "max_position_embeddings": 2048, "tie_word_embeddings": True,
    "eos_token_id": 2,
}


def degrees(prefill, decode):
    return [f"--prefill-tensor-parallel={prefill}", f"--decode-tensor-parallel={decode}"]


@pytest.fixture(scope="module")
def requests():
    print(f"seed {SEED}")
    return mixed_requests(SEED, 40)


def answers(cluster, requests, parallel):
    return [answer(response) for response in in_parallel(cluster.complete, requests, parallel)]


@pytest.fixture(scope="module")
def expected(requests):
    """By one process, one request at a time."""
    with Cluster(colocated=True) as cluster:
        return answers(cluster, requests, 1)


# Of the demo model's two KV heads four processes have each twice.
@pytest.mark.parametrize("prefill, decode", [(2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2)])
def test_any_degrees_give_the_answers_of_one_process(requests, expected, prefill, decode):
    with Cluster(HANDOFF_ALWAYS, "--batch-prefill-chunk=64", *degrees(prefill, decode)) as cluster:
        assert answers(cluster, requests, 8) == expected
        response = cluster.complete({**requests[0], "timings": True})
        assert response["timings"]["kv_bytes"] > 0
        assert len(cluster.ranks("prefill-0")) == prefill - 1
        assert len(cluster.ranks("decode-0")) == decode - 1
        twice = [line for line in cluster.stderr if "2 copies of each head" in line]
        assert len(twice) == (prefill, decode).count(4)


@pytest.mark.parametrize("prefill, decode", [(2, 2), (1, 4)])
def test_gloo_gives_the_answers_of_one_process(requests, expected, prefill, decode):
    with Cluster(HANDOFF_ALWAYS, "--tensor-parallel-transport=gloo",
                 *degrees(prefill, decode)) as cluster:
        assert answers(cluster, requests, 8) == expected


@pytest.mark.parametrize("prefill, decode", [(4, 2), (1, 4)])
def test_four_processes_hand_over_to_two_and_take_from_one(tmp_path, prefill, decode):
    config = tmp_path / "four_kv_heads.json"
    config.write_text(json.dumps(FOUR_KV_HEADS))
    bodies = [{"prompt": f"Number {index}: " + "word " * (13 * index), "max_tokens": 24,
               "temperature": 0.8, "seed": index, "ignore_eos": True, "return_token_ids": True}
              for index in range(8)]
    model = f"dummy:{config}"
    with Cluster(colocated=True, model=model) as cluster:
        alone = answers(cluster, bodies, 1)
    with Cluster(HANDOFF_ALWAYS, *degrees(prefill, decode), model=model) as cluster:
        assert answers(cluster, bodies, 4) == alone


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_each_process_keeps_its_part_of_quantized_weights(requests, weights, tmp_path):
    some = requests[:16]
    with Cluster(f"--weights={weights}", colocated=True) as cluster:
        alone = answers(cluster, some, 1)
    kept = []
    for _ in ("made", "read again"):
        with Cluster(f"--weights={weights}", f"--packed-cache={tmp_path}", HANDOFF_ALWAYS,
                     *degrees(2, 4)) as cluster:
            assert answers(cluster, some, 8) == alone
        kept.append({file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()
                     if file.suffix == ".packed"})
    assert len(kept[0]) == 6 and kept[0] == kept[1]


@pytest.mark.parametrize("ranks", [2, 4])
def test_colocated_by_rows_answers_alike_every_time(requests, ranks):
    """Sums in another order: other bits than one process, but the same ones in every batch."""
    flags = [f"--tensor-parallel={ranks}", "--tensor-parallel-split=rows"]
    with Cluster(*flags, colocated=True) as cluster:
        once = answers(cluster, requests[:12], 1)
        assert answers(cluster, requests[:12], 1) == once


def test_heads_that_cannot_be_shared_are_an_error_that_says_what_could():
    done = subprocess.run([BATON, "worker", "--model", DEMO, "--tensor-parallel=3"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert ("tensor_parallel is 3; the model's 4 heads and 2 KV heads can be shared by 1, 2, 4"
            in done.stderr)


def test_a_rank_that_dies_takes_its_worker_down_and_no_answer_is_wrong(requests, expected):
    with Cluster(HANDOFF_ALWAYS, *degrees(1, 2), decode=2) as cluster:
        victim_pid = cluster.workers()["decode-0"]["pid"]
        (rank,) = cluster.ranks("decode-0")
        done = []

        def run(body):
            if len(done) == 10:
                os.kill(rank, signal.SIGKILL)
            response = cluster.complete(body)
            done.append(body)
            return answer(response)

        assert in_parallel(run, requests, 4) == expected
        wait_until(lambda: cluster.workers()["decode-0"]["pid"] != victim_pid, 15, "a restart")


def test_the_ranks_go_with_their_worker():
    with Cluster("--tensor-parallel=2", colocated=True) as cluster:
        (rank,) = cluster.ranks("both-0")
        victim_pid = cluster.workers()["both-0"]["pid"]
        cluster.kill("both-0")
        wait_until(lambda: not pathlib.Path(f"/proc/{rank}").exists(), 10, "the rank's end")
        wait_until(lambda: cluster.workers()["both-0"]["pid"] != victim_pid, 15, "a restart")
