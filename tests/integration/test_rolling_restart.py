"""Drain and upgrade under load: each process of a cluster is stopped and replaced, and no request
is lost."""

import concurrent.futures
import http.client
import json
import os
import signal
import sys

import pytest
from cluster import ROOT, in_parallel, wait_until
from mixed_requests import STORIES, answer
from processes import Cell, get, post, start_router, start_worker
from raw_clients import RawClient, read_until
from raw_clients import post as raw_post

sys.path.insert(0, str(ROOT / "tests/chaos"))
from load import Load  # noqa: E402  (clients that check each token of known answers)

LONG = "BATON_TEST_LONG" in os.environ
CLIENTS = 12


def known(port):
    """Requests of all kinds, some short, some that stream for a while; and their answers."""
    bodies = []
    for i in range(24):
        body = {"prompt": f"{STORIES[i % len(STORIES)]} " * (1 + i % 4), "seed": i,
                "max_tokens": (16, 120, 400)[i % 3], "ignore_eos": True, "temperature": 0.8,
                "return_token_ids": True}
        if i % 5 == 0:
            body.update(n=2, logprobs=2)
        if i % 7 == 0:
            body["temperature"] = 0
        bodies.append(body)

    def ask(body):
        status, _, parsed = post(port, body)
        assert status == 200, parsed
        return answer(parsed)

    return bodies, in_parallel(ask, bodies, 8)


class Running:
    """Load on a router while the block lasts; `outcomes` are what became of its requests."""

    def __init__(self, port, seed=1, clients=CLIENTS):
        self._load = Load("127.0.0.1", port, *known(port), clients, seed, leave_share=0)

    def __enter__(self):
        self._load.start()
        self.wait_for_more(2 * CLIENTS)
        return self

    def __exit__(self, *_):
        assert self._load.stop(), "a request has no end"

    @property
    def outcomes(self):
        return list(self._load.outcomes)

    def wait_for_more(self, count):
        so_far = len(self.outcomes)
        wait_until(lambda: len(self.outcomes) >= so_far + count, 60, f"{count} more requests")

    def lost(self):
        return [(each.kind, each.detail) for each in self.outcomes if each.kind != "answer"]


@pytest.mark.parametrize("arguments", [[]] + ([["--conditional-disaggregation=off"]] if LONG else []))
def test_replacing_every_worker_under_load_loses_no_request(arguments):
    with Cell(router_arguments=["--admission-mode=off", *arguments]) as cell:
        with Running(cell.port) as running:
            for _ in range(3 if LONG else 1):
                for name in list(cell.workers):
                    cell.replace_worker(name)
                    running.wait_for_more(CLIENTS)
        print(f"{len(running.outcomes)} answers")
        assert running.lost() == []
        ends = len(cell.workers) * (3 if LONG else 1)
        wait_until(lambda: len(cell.router.events("worker lost")) >= ends, 10, "the log is read")
        assert len(cell.router.events("worker lost")) == ends


def test_a_draining_worker_gets_nothing_new_and_ends_when_its_streams_have():
    body = {"prompt": STORIES[0], "max_tokens": 1500, "ignore_eos": True, "temperature": 0}
    with Cell(prefill=1, decode=2) as cell:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            streams = [Stream(cell.port, body) for _ in range(4)]
            rest = [pool.submit(stream.read_to_end) for stream in streams]
            leaving = cell.workers["decode-0"]
            leaving.signal()
            wait_until(lambda: "decode-0" not in cell.live(), 10, "the router knows of the drain")
            for _ in range(10):
                status, _, parsed = post(cell.port, {**body, "max_tokens": 4, "timings": True})
                assert status == 200 and parsed["timings"]["decode_worker"] == "decode-1", parsed
            assert leaving.end() == 0
            tokens = [each.result(60) for each in rest]
            assert [count for count, _ in tokens] == [1500] * 4
            assert len({text for _, text in tokens}) == 1
        cell.workers["decode-0"] = start_worker("decode-0", "decode", port=leaving.ports[0])


class Stream:
    """One streamed completion, read up to its first token."""

    def __init__(self, port, body):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}),
                                 {"content-type": "application/json"})
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        self._events = []
        self._next()

    def _next(self):
        """False at the end; raises where the connection broke."""
        while line := self._response.readline():
            if line == b"data: [DONE]\n":
                return False
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                assert "error" not in event, event
                self._events.append(event)
                return True
        raise ConnectionError("the stream ended without [DONE]")

    def read_to_end(self):
        """(events with text or tokens, the whole text)"""
        while self._next():
            pass
        self._connection.close()
        texts = [choice["text"] for event in self._events for choice in event["choices"]
                 if not choice["finish_reason"]]
        return len(texts), "".join(texts)


def test_a_draining_router_finishes_its_streams_and_refuses_new_requests():
    body = {"prompt": STORIES[0], "max_tokens": 1000, "ignore_eos": True, "temperature": 0}
    with Cell(prefill=1, decode=1) as cell:
        expected = Stream(cell.port, body).read_to_end()
        streams = [Stream(cell.port, body) for _ in range(3)]
        kept = http.client.HTTPConnection("127.0.0.1", cell.port, timeout=10)
        kept.request("GET", "/livez")
        assert kept.getresponse().read() is not None
        cell.router.signal()
        wait_until(lambda: get(cell.port, "/readyz")[0] == 503, 10, "not ready")
        status, headers, parsed = post(cell.port, body)
        assert status == 503 and parsed["error"]["code"] == "draining", parsed
        assert int(headers["Retry-After"]) >= 1
        assert in_parallel(Stream.read_to_end, streams, 3) == [expected] * 3
        assert cell.router.end() == 0
        with pytest.raises(OSError):
            get(cell.port, "/livez")
        cell.start_router()
        assert Stream(cell.port, body).read_to_end() == expected


# How a client may be told that its request was not taken: by the router as it drains, or by nobody
# listening. Never in the middle of an answer.
CLEAN = ("draining", "loading", "no_workers", "ConnectionRefusedError", "ConnectionResetError",
         "BrokenPipeError", "RemoteDisconnected")


def test_replacing_the_router_under_load_breaks_no_stream():
    with Cell(router_arguments=["--admission-mode=off"]) as cell:
        with Running(cell.port) as running:
            for _ in range(6 if LONG else 2):
                cell.router.signal()
                assert cell.router.end() == 0
                cell.start_router()
                running.wait_for_more(3 * CLIENTS)
        refused = {}
        for kind, detail in running.lost():
            reason = next((each for each in CLEAN if each in detail), None)
            assert reason, (kind, detail)
            refused[reason] = refused.get(reason, 0) + 1
        for each in running.outcomes:
            assert each.kind == "answer" or not each.token_times, each.detail
        print(f"{len(running.outcomes) - len(running.lost())} answers, refused: {refused}")


@pytest.mark.parametrize("which", ["router", "decode-0", "prefill-0"])
def test_a_second_signal_ends_a_process_at_once(which):
    with Cell(prefill=1, decode=1, router_arguments=["--conditional-disaggregation=off"]) as cell:
        process = cell.router if which == "router" else cell.workers[which]
        # As much as keeps each of them busy for seconds.
        clients = [RawClient("127.0.0.1", cell.port) for _ in range(16)]
        for i, client in enumerate(clients):
            prompt = " ".join(STORIES[(i + j) % 5] for j in range(140))
            assert client.send(raw_post("/v1/completions", {
                "prompt": f"{i} {prompt}", "max_tokens": 500, "ignore_eos": True, "n": 4}, True))
        read_until(clients[:1], lambda client: b"data: " in client.received, 30, "a token")
        process.signal()
        wait_until(lambda: process.events("draining"), 10, "draining")
        process.signal(signal.SIGINT)
        assert process.end(10) == 1
        assert process.events("stopping with requests still running")
        for client in clients:
            client.close()
        process.close()
        if which == "router":
            cell.start_router()
        else:
            cell.workers[which] = start_worker(which, which.split("-")[0],
                                               port=process.ports[0])
            cell.wait_whole()
        assert post(cell.port, {"prompt": "A", "max_tokens": 2})[0] == 200


def test_workers_of_another_model_or_dtype_are_refused_and_the_others_serve(tmp_path):
    demo = ROOT / "models/demo"
    config = json.loads((demo / "config.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).write_bytes((demo / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with Cell(prefill=1, decode=2) as cell:
        refuse_strangers(cell, tmp_path, demo)


def refuse_strangers(cell, tmp_path, demo):
    with Running(cell.port, clients=4) as running:
        good = cell.workers["decode-1"]
        for arguments, model in ((["--load-format=dummy"], tmp_path), (["--dtype=f32"], demo)):
            cell.workers["decode-1"].signal()
            assert cell.workers["decode-1"].end() == 0
            before = len(cell.router.events("worker refused"))
            stranger = cell.workers["decode-1"] = start_worker(
                "decode-1", "decode", *arguments, model=model, port=good.ports[0])
            refused = wait_until(lambda n=before: cell.router.events("worker refused")[n:], 20,
                                 "refused")[0]
            print(refused["reason"])
            assert refused["address"] == f"127.0.0.1:{good.ports[0]}"
            assert "serves model" in refused["reason"] and "this worker holds" in refused["reason"]
            wait_until(lambda p=stranger: p.events("router refused"), 10, "said on both sides")
            running.wait_for_more(8)
            assert "decode-1" not in cell.live()
        cell.workers["decode-1"].signal()
        assert cell.workers["decode-1"].end() == 0
        cell.workers["decode-1"] = start_worker("decode-1", "decode", port=good.ports[0])
        cell.wait_whole()
        running.wait_for_more(8)
    assert running.lost() == []


def test_two_routers_share_workers_and_one_takes_over_from_the_other():
    body = {"prompt": STORIES[0], "max_tokens": 600, "ignore_eos": True, "temperature": 0}
    with Cell(prefill=1, decode=1) as cell:
        expected = Stream(cell.port, body).read_to_end()
        streams = [Stream(cell.port, body) for _ in range(3)]
        second = start_router(cell.workers.values(), "--id=router-1")
        try:
            second.wait_ready()
            streams += [Stream(second.ports[0], body) for _ in range(3)]
            cell.router.signal()
            assert in_parallel(Stream.read_to_end, streams, 6) == [expected] * 6
            assert cell.router.end() == 0
            assert Stream(second.ports[0], body).read_to_end() == expected
            second.signal()
            assert second.end() == 0
        finally:
            second.close()
