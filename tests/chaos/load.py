"""Clients of the campaign: requests whose answers are known, checked token by token."""

import dataclasses
import http.client
import json
import pathlib
import random
import sys
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from mixed_requests import answer  # noqa: E402

TIMEOUT_S = 90  # above the requests' own deadline of 60 s: one that lasts longer hangs
# Ends that DESIGN's failure semantics allow while faults are on.
TYPED_ERRORS = {"prefill_lost", "decode_lost", "no_workers", "deadline_exceeded", "overloaded",
                "kv_exhausted", "request_quarantined", "draining", "loading"}


@dataclasses.dataclass
class Outcome:
    kind: str  # "answer", "error", "left" (we did), "broken" (the connection ended), "wrong"
    detail: str
    started: float
    ended: float
    token_times: list  # of streamed events


class Load:
    """`clients` threads that send requests of `bodies` until told to stop.

    Of the requests `leave_share` are left in the middle and `whole_share` not streamed; a client
    thinks for `think_s` between two, in the mean.
    """

    def __init__(self, address, port, bodies, expected, clients, seed, leave_share=0.15,
                 whole_share=0.0, think_s=0.0):
        self.address, self.port = address, port
        self.bodies, self.expected = bodies, expected
        self.leave_share, self.whole_share, self.think_s = leave_share, whole_share, think_s
        self.outcomes = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._storms = []
        self._threads = [threading.Thread(target=self._client, args=(seed * 1000 + i,), daemon=True)
                         for i in range(clients)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Returns when every client has its last end; a request that has none is a failure."""
        self._stop.set()
        everybody = self._threads + self._storms
        for thread in everybody:
            thread.join(TIMEOUT_S + 30)
        return not any(thread.is_alive() for thread in everybody)

    def leave_storm(self, count, rng):
        """Clients that all leave in the middle, at once."""
        def one(index):
            self._add(self._watched(index, leave_after=1))
        threads = [threading.Thread(target=one, args=(rng.randrange(len(self.bodies)),), daemon=True)
                   for _ in range(count)]
        for thread in threads:
            thread.start()
        self._storms += threads

    def _client(self, seed):
        rng = random.Random(seed)
        while not self._stop.is_set():
            index = rng.randrange(len(self.bodies))
            leave_after = rng.randrange(1, 8) if rng.random() < self.leave_share else None
            whole = leave_after is None and rng.random() < self.whole_share
            outcome = self._watched(index, leave_after, whole)
            self._add(outcome)
            if outcome.kind in ("broken", "error"):
                self._stop.wait(0.1)  # as a client that tries again would
            if self.think_s:
                self._stop.wait(rng.expovariate(1 / self.think_s))

    def _watched(self, index, leave_after=None, whole=False):
        """`stream` or `read_whole`, with every surprise as its outcome."""
        started = time.monotonic()
        try:
            return self.read_whole(index) if whole else self.stream(index, leave_after)
        except Exception:  # noqa: BLE001  (whatever it is, the server sent it)
            return Outcome("wrong", f"request {index}: {traceback.format_exc(limit=3)}", started,
                           time.monotonic(), [])

    def _add(self, outcome):
        with self._lock:
            self.outcomes.append(outcome)

    def read_whole(self, index):
        started = time.monotonic()
        connection = http.client.HTTPConnection(self.address, self.port, timeout=TIMEOUT_S)

        def end(kind, detail=""):
            return Outcome(kind, f"request {index}: {detail}" if detail else "", started,
                           time.monotonic(), [])

        try:
            connection.request("POST", "/v1/completions", json.dumps(self.bodies[index]),
                               {"content-type": "application/json"})
            response = connection.getresponse()
            said = json.loads(response.read())
        except (OSError, http.client.HTTPException) as problem:
            timed_out = isinstance(problem, TimeoutError)
            return end("wrong", "no end in time") if timed_out else end("broken", repr(problem))
        finally:
            connection.close()
        if response.status != 200:
            return self._error(end, said.get("error", {}))
        same = answer(said) == self.expected[index]
        return end("answer") if same else end("wrong", "read whole: another answer")

    def stream(self, index, leave_after=None):
        started = time.monotonic()
        times = []

        def end(kind, detail=""):
            return Outcome(kind, f"request {index}: {detail}" if detail else "", started,
                           time.monotonic(), times)

        connection = http.client.HTTPConnection(self.address, self.port, timeout=TIMEOUT_S)
        got = Assembled(self.expected[index])
        try:
            connection.request("POST", "/v1/completions",
                               json.dumps({**self.bodies[index], "stream": True}),
                               {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                return self._error(end, json.loads(response.read()).get("error", {}))
            while line := response.readline():
                if line == b"data: [DONE]\n":
                    problem = got.missing()
                    return end("wrong", problem) if problem else end("answer")
                if not line.endswith(b"\n"):
                    return end("broken", "the stream ended in the middle of a line")
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    return self._error(end, event["error"])
                times.append(time.monotonic())
                problem = got.add(event)
                if problem:
                    return end("wrong", problem)
                if leave_after is not None and len(times) >= leave_after:
                    return end("left")
            return end("broken", "the stream ended without [DONE] or an error")
        except (OSError, http.client.HTTPException) as problem:
            timed_out = isinstance(problem, TimeoutError)
            return end("wrong", "no end in time") if timed_out else end("broken", repr(problem))
        finally:
            connection.close()

    @staticmethod
    def _error(end, error):
        code = error.get("code")
        return end("error" if code in TYPED_ERRORS else "wrong", str(error if code not in TYPED_ERRORS
                                                                     else code))


class Assembled:
    """What a stream has said so far, against the answer that it must become."""

    def __init__(self, expected):
        self._expected = {choice[0]: choice for choice in expected}
        self._tokens = {index: [] for index in self._expected}
        self._text = {index: "" for index in self._expected}
        self._logprobs = {index: [] for index in self._expected}
        self._reason = {}

    def add(self, event):
        """What is wrong with the event; empty: nothing."""
        for choice in event["choices"]:
            index = choice["index"]
            if index not in self._tokens:
                return f"there is no choice {index}"
            if index in self._reason:
                return f"choice {index} goes on after its end"
            tokens = self._tokens[index]
            tokens.extend(choice.get("token_ids") or [])
            if tokens != self._expected[index][2][:len(tokens)]:
                return f"choice {index}: token {len(tokens) - 1} differs, is there twice or too many"
            self._text[index] += choice["text"]
            self._logprobs[index] += (choice.get("logprobs") or {}).get("token_logprobs") or []
            if choice.get("finish_reason"):
                self._reason[index] = choice["finish_reason"]
        return ""

    def missing(self):
        for index, (_, text, tokens, reason, logprobs) in self._expected.items():
            if self._tokens[index] != tokens:
                return f"choice {index}: {len(self._tokens[index])} tokens of {len(tokens)}"
            if self._text[index] != text:
                return f"choice {index}: {self._text[index]!r} instead of {text!r}"
            if self._logprobs[index] != (logprobs or []):
                return f"choice {index}: other logprobs"
            if self._reason.get(index) != reason:
                return f"choice {index} ended by {self._reason.get(index)}, not {reason}"
        return ""
