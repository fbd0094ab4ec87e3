"""Workers killed with SIGKILL under load."""

import threading
import time

from cluster import Cluster, StreamError, in_parallel, wait_until
from mixed_requests import answer, mixed_requests

SEED = 4242


def outcome(cluster, body):
    """("answer", …) or ("error", code, seconds since the request was sent)."""
    try:
        tokens = {}
        for event in cluster.stream(body):
            for choice in event["choices"]:
                tokens.setdefault(choice["index"], []).extend(choice.get("token_ids") or [])
        return ("answer", tokens)
    except StreamError as error:
        return ("error", error.error["code"], time.monotonic())


def streamed_tokens(response):
    return {choice["index"]: choice["token_ids"] for choice in response["choices"]}


def test_killing_one_of_two_prefill_workers_loses_no_request():
    print(f"seed {SEED}")
    bodies = [{**body, "ignore_eos": True} for body in mixed_requests(SEED, 60)]
    with Cluster("--batch-prefill-chunk=16", "--conditional-disaggregation=off", prefill=2) as cluster:
        expected = in_parallel(cluster.complete, bodies, 16)
        victim_pid = cluster.workers()["prefill-0"]["pid"]
        done = []

        def run(indexed):
            index, body = indexed
            if index == 15:
                cluster.kill("prefill-0")
            result = outcome(cluster, body)
            done.append(index)
            return result

        results = in_parallel(run, enumerate(bodies), 8)
        for index, result in enumerate(results):
            assert result == ("answer", streamed_tokens(expected[index])), f"request {index}"
        wait_until(lambda: cluster.workers()["prefill-0"]["pid"] != victim_pid, 10, "a restart")


def test_killing_the_only_decode_worker_gives_each_open_request_one_error_and_recovers():
    print(f"seed {SEED}")
    body = {"prompt": "Once upon a time there was a", "max_tokens": 1500, "ignore_eos": True,
            "temperature": 0, "n": 8, "return_token_ids": True}
    with Cluster("--conditional-disaggregation=off") as cluster:
        short = {**body, "max_tokens": 20}
        before = answer(cluster.complete(short))
        killed_at = []

        def kill():
            killed_at.append(time.monotonic())
            cluster.kill("decode-0")

        all_stream = threading.Barrier(8, action=kill)

        def run(_):
            events = cluster.stream(body)
            try:
                next(events)
                all_stream.wait(20)
                return ("answer", sum(1 for _ in events))
            except StreamError as error:
                return ("error", error.error["code"], time.monotonic())

        for result in in_parallel(run, range(8), 8):
            assert result[0] == "error" and result[1] == "decode_lost", result
            assert result[2] - killed_at[0] < 5
        wait_until(lambda: cluster.request("GET", "/readyz")[0] == 200, 20, "ready again")
        assert answer(cluster.complete(short)) == before


def test_killing_one_of_two_decode_workers_goes_on_with_the_same_tokens():
    print(f"seed {SEED}")
    bodies = [{**body, "n": 1, "stop": None, "max_tokens": 1200, "ignore_eos": True}
              for body in mixed_requests(SEED, 16)]
    with Cluster(decode=2) as cluster:
        expected = in_parallel(cluster.complete, bodies, 16)
        all_stream = threading.Barrier(16, action=lambda: cluster.kill("decode-0"))

        def run(body):
            tokens = []
            for event in cluster.stream(body):
                if not tokens:
                    all_stream.wait(20)
                for choice in event["choices"]:
                    tokens.extend(choice.get("token_ids") or [])
            return tokens

        for index, tokens in enumerate(in_parallel(run, bodies, 16)):
            assert tokens == streamed_tokens(expected[index])[0], f"request {index}"
        retries = [value for series, value in cluster.metrics().items()
                   if series.startswith("baton_request_retries_total")]
        assert sum(retries) > 0, "the kill hit nothing"
