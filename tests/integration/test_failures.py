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
                # More than the first tokens: what is still being handed over may be tried again.
                for _ in range(40):
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


# What a resumed stream must go on with: each way of drawing and ending.
MODES = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 0.9, "top_p": 0.95, "top_k": 50},
    "penalties": {"temperature": 0.7, "presence_penalty": 0.5, "frequency_penalty": 0.4,
                  "repetition_penalty": 1.1},
    "stop string": {"temperature": 0.8},
    "n > 1": {"temperature": 0.8, "n": 3, "max_tokens": 300},
    "logprobs": {"temperature": 0.8, "logprobs": 2},
}


def late_piece(text):
    """Some characters that first occur in the text's last fifth."""
    for start in range(len(text) * 4 // 5, len(text) - 8):
        if text.index(text[start:start + 8]) == start:
            return text[start:start + 8]
    raise AssertionError("the text only repeats itself")


def streamed_answer(events):
    """The same as `answer`, of a stream of (time, event), with the times and its attempts."""
    choices, times, attempts = {}, [], 1
    for at, event in events:
        times.append(at)
        attempts = event.get("timings", {}).get("attempts", attempts)
        for choice in event["choices"]:
            whole = choices.setdefault(choice["index"], ["", [], None, []])
            whole[0] += choice["text"]
            whole[1] += choice.get("token_ids") or []
            whole[2] = choice.get("finish_reason") or whole[2]
            whole[3] += (choice.get("logprobs") or {}).get("token_logprobs") or []
    return ([(index, text, tokens, reason, logprobs or None)
             for index, (text, tokens, reason, logprobs) in sorted(choices.items())],
            times, attempts)


def test_streams_go_on_with_the_same_tokens_when_their_decode_worker_is_killed():
    print(f"seed {SEED}")
    bodies = []
    for mode in MODES:
        for index in range(8):
            bodies.append({"prompt": f"Story {index}: once upon a time there was a", "seed": index,
                           "max_tokens": 600, "ignore_eos": True, "return_token_ids": True,
                           "timings": True, **MODES[mode], "mode": mode})
    modes = [body.pop("mode") for body in bodies]
    with Cluster("--admission-mode=off", decode=2) as cluster:
        expected = in_parallel(cluster.complete, bodies, 16)
        for body, mode, response in zip(bodies, modes, expected):
            if mode == "stop string":
                body["stop"] = [late_piece(response["choices"][0]["text"])]
                response.update(cluster.complete(body))
                assert response["choices"][0]["finish_reason"] == "stop"
        resumed, pauses = {mode: 0 for mode in MODES}, []

        def one_round():
            killed_at = []

            def kill():
                killed_at.append(time.monotonic())
                cluster.kill("decode-0")

            all_stream = threading.Barrier(len(bodies), action=kill)

            def run(body):
                def events():
                    for number, event in enumerate(cluster.stream(body)):
                        at = time.monotonic()
                        if number == 1:
                            all_stream.wait(60)
                        yield at, event
                return streamed_answer(events())

            for index, (got, times, attempts) in enumerate(in_parallel(run, bodies, len(bodies))):
                assert got == answer(expected[index]), f"request {index}, {modes[index]}"
                if attempts > 1:
                    resumed[modes[index]] += 1
                    pauses.append(max(late - max(early, killed_at[0])
                                      for early, late in zip(times, times[1:])
                                      if late > killed_at[0]))

        for _ in range(4):  # which streams are on decode-0 is the router's choice
            if min(resumed.values()) > 0:
                break
            victim = cluster.workers()["decode-0"]["pid"]
            one_round()
            wait_until(lambda: cluster.workers()["decode-0"]["pid"] != victim, 20, "a restart")
            wait_until(lambda: len(cluster.live_workers()) == 3, 20, "all workers alive")
        pauses.sort()
        print(f"resumed: {resumed}; pause p50 {pauses[len(pauses) // 2]:.2f} s, "
              f"longest of {len(pauses)} {pauses[-1]:.2f} s")
        assert min(resumed.values()) > 0, f"no kill hit some mode: {resumed}"
        assert pauses[-1] < 10
