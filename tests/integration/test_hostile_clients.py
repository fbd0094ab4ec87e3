"""Very many, slow, deaf and fickle clients: others are served, and memory has a bound."""

import concurrent.futures
import os
import statistics
import threading
import time

import pytest
from cluster import Cluster, in_parallel, wait_until
from mixed_requests import STORIES
from raw_clients import RawClient, post, raise_file_limit, read_until

LONG = "BATON_TEST_LONG" in os.environ
CONNECTIONS = 10000
HELD = ("reserved", "landing", "sealed", "in_use", "quarantined")
MIB = 1 << 20

SHORT = {"prompt": "Once upon a time there was a", "max_tokens": 4, "temperature": 0,
         "return_token_ids": True}


def memory(pid):
    """(resident, address space) in bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        size, resident = statm.read().split()[:2]
    return int(resident) * 4096, int(size) * 4096


def router_pid(cluster):
    return int(cluster.events("router started")[0]["pid"])


def all_pids(cluster):
    return {"router": router_pid(cluster),
            **{name: worker["pid"] for name, worker in cluster.workers().items()}}


def tokens(response):
    return [choice["token_ids"] for choice in response["choices"]]


class NormalClient:
    """One that asks again and again while something goes on; a context manager."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._expected = tokens(cluster.complete(SHORT))
        self.seconds = []
        self.problems = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stop.is_set():
            start = time.monotonic()
            try:
                if tokens(self._cluster.complete(SHORT, timeout=60)) != self._expected:
                    self.problems.append("another answer")
            except Exception as problem:  # noqa: BLE001  (whatever it is, it is a failure)
                self.problems.append(repr(problem))
            self.seconds.append(time.monotonic() - start)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)

    def check(self, longest_s):
        assert not self.problems, self.problems[:3]
        print(f"normal client: {len(self.seconds)} answers, median "
              f"{statistics.median(self.seconds) * 1e3:.1f} ms, longest {max(self.seconds):.2f} s")
        assert max(self.seconds) < longest_s


def assert_nothing_held(cluster):
    for worker in cluster.workers():
        wait_until(lambda w=worker: not any(cluster.blocks(w)[state] for state in HELD), 10,
                   f"{worker} holds no block")


def close_all(cluster, clients):
    for client in clients:
        client.close()
    # The one that asks is open.
    wait_until(lambda: cluster.metrics()["baton_http_connections"] <= 1, 20, "connections closed")


def test_ten_thousand_connections_are_held_and_one_more_client_is_answered():
    if not raise_file_limit(CONNECTIONS + 1000):
        pytest.skip(f"the limit of open files is below {CONNECTIONS}")
    request = post("/v1/completions", {**SHORT, "max_tokens": 2}, stream=True)
    queue = 4096 if LONG else 1500
    with Cluster(f"--queue-max-requests={queue}") as cluster:
        pid = router_pid(cluster)
        with NormalClient(cluster) as normal:
            wait_until(lambda: len(normal.seconds) > 20 or normal.problems, 30, "answers")
            before = memory(pid)[0]
            clients = [RawClient(cluster.host, cluster.port) for _ in range(CONNECTIONS)]
            wait_until(lambda: cluster.metrics()["baton_http_connections"] > CONNECTIONS, 20,
                       "all connections open")
            asked = len(normal.seconds)
            wait_until(lambda: len(normal.seconds) > asked + 100 or normal.problems, 60, "answers")
            idle = memory(pid)[0]
        normal.check(longest_s=2)
        print(f"{(idle - before) / CONNECTIONS / 1024:.1f} KiB for each idle connection")
        assert idle - before < CONNECTIONS * 8 * 1024

        expected = tokens(cluster.complete({**SHORT, "max_tokens": 2}))[0]
        peaks, pings = [], []
        for _ in range(3 if LONG else 2):
            for client in clients:
                client.received = b""
                assert client.send(request)
            # What needs no model is answered in the middle of it.
            start = time.monotonic()
            assert cluster.request("GET", "/livez")[0] == 200
            pings.append(time.monotonic() - start)
            read_until(clients, RawClient.answered, 120, "an answer for each")
            peaks.append(memory(pid)[0])
            for client in clients:
                assert not client.closed
                if client.status == 200:
                    events = client.events()
                    assert events[-1] is None
                    got = [t for e in events[:-1] for c in e["choices"] for t in c["token_ids"]]
                    assert got == expected
                else:
                    assert client.status == 429 and int(client.header("retry-after")) >= 1
            counts = [sum(c.status == status for c in clients) for status in (200, 429)]
            print(f"{counts[0]} answered, {counts[1]} refused; {peaks[-1] / MIB:.0f} MiB resident")
            assert counts[0] >= queue
        print(f"/livez in the middle of it: {max(pings):.2f} s")
        assert max(pings) < 5
        assert peaks[-1] < before + 128 * MIB and peaks[-1] < peaks[0] * 1.25
        close_all(cluster, clients)
        assert_nothing_held(cluster)


def test_connections_over_the_limit_get_an_answer_and_leave_room_again():
    with Cluster("--max-connections=40", "--http-idle-timeout=10m") as cluster:
        held = [RawClient(cluster.host, cluster.port) for _ in range(40)]
        over = []
        for _ in range(20):
            client = RawClient(cluster.host, cluster.port)
            client.send(post("/v1/completions", SHORT))
            over.append(client)
        read_until(over, lambda client: False, 20, "closed")
        for client in over:
            assert client.status == 503 and b"too_many_connections" in client.received
            assert client.header("retry-after") == "1" and not client.reset
        # Who was there first is served.
        request = post("/v1/completions", SHORT)
        assert all(client.send(request) for client in held)
        read_until(held, RawClient.answered, 20, "answers")
        assert [client.status for client in held] == [200] * 40
        for client in held + over:
            client.close()
        wait_until(lambda: cluster.request("GET", "/livez")[0] == 200, 10, "room again")
        close_all(cluster, [])


def test_slow_heads_and_bodies_are_cut_off_and_hurt_nobody():
    count = 1500 if LONG else 500
    assert raise_file_limit(3 * count + 1000)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: slow\r\nX-Fill: " + b"x" * 4000
    announced = b"POST /v1/completions HTTP/1.1\r\nHost: slow\r\nContent-Length: 16000000\r\n\r\n{"
    with Cluster("--http-head-timeout=2s", "--http-body-timeout=2s") as cluster:
        pid = router_pid(cluster)
        resident, space = memory(pid)
        with NormalClient(cluster) as normal:
            heads = [RawClient(cluster.host, cluster.port) for _ in range(count)]
            bodies = [RawClient(cluster.host, cluster.port) for _ in range(count)]
            everybody = heads + bodies
            start = time.monotonic()
            assert all(client.send(head) for client in heads)
            assert all(client.send(announced) for client in bodies)
            peak = [0, 0]
            sent = 0
            while not all(client.closed for client in everybody):
                assert time.monotonic() < start + 30, "slow clients are still there"
                for client in everybody:
                    if not client.closed:
                        client.send(b"x")
                        client.read()
                sent += 1
                peak = [max(pair) for pair in zip(peak, memory(pid))]
            took = time.monotonic() - start
        normal.check(longest_s=2)
        assert sent > 5  # rounds of a byte each: they were slow, not silent
        for client in everybody:
            assert client.status in (0, 408), client.received[:200]
        told = sum(client.status == 408 for client in everybody)
        print(f"{told} of {len(everybody)} were told 408 within {took:.1f} s, {sent} bytes each; "
              f"{(peak[0] - resident) / MIB:.1f} MiB resident and {(peak[1] - space) / MIB:.0f} MiB "
              "of address space more")
        assert told > len(everybody) * 0.9
        assert cluster.metrics()['baton_http_disconnects_total{reason="timeout"}'] >= told
        assert peak[0] - resident < 24 * MIB and peak[1] - space < 512 * MIB
        close_all(cluster, everybody)


def test_large_bodies_of_many_clients_share_a_bound():
    part = b"x" * MIB
    with Cluster("--http-max-waiting-bodies=32MiB") as cluster:
        pid = router_pid(cluster)
        before = memory(pid)[0]
        with NormalClient(cluster) as normal:
            clients = [RawClient(cluster.host, cluster.port) for _ in range(60)]
            for client in clients:
                client.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                            b"Content-Length: 8000000\r\n\r\n")
            left = {client: 3 * MIB for client in clients}

            def push():
                """Sends and reads what goes; how many have their answer."""
                for client in clients:
                    if not client.closed and client.status == 0 and left[client]:
                        try:
                            left[client] -= client.socket.send(part[:left[client]])
                        except OSError:
                            pass  # no room in the kernel, or refused meanwhile
                    if not client.closed:
                        client.read()
                return sum(client.status != 0 for client in clients)

            # A body's memory is at least its size: no more than 16 of 2 MiB fit at once.
            wait_until(lambda: push() >= 60 - 16, 30, "most refused")
            refused = [client for client in clients if client.status]
            assert {client.status for client in refused} == {429}
            grown = memory(pid)[0] - before
        normal.check(longest_s=2)
        print(f"{len(refused)} of 60 refused; {grown / MIB:.1f} MiB resident more")
        assert grown < 128 * MIB
        close_all(cluster, clients)


def test_slow_readers_are_disconnected_and_delay_no_other_stream():
    readers = 96 if LONG else 28
    # Each stream is several times what the kernel and the router keep for it.
    body = {"prompt": STORIES[0], "max_tokens": 1900, "temperature": 0.9, "seed": 1, "n": 2,
            "logprobs": 5, "ignore_eos": True}
    other = {**SHORT, "max_tokens": 1200, "ignore_eos": True}
    slow = 'baton_http_disconnects_total{reason="slow_reader"}'
    with Cluster("--http-max-output=64KiB", "--http-write-timeout=5s",
                 "--admission-mode=off") as cluster:
        pid = router_pid(cluster)
        expected = tokens(cluster.complete(other))[0]
        before = memory(pid)[0]
        all_stream = threading.Barrier(5)

        def read_along(_):
            """(tokens, longest time between two events) of a stream that is read at once."""
            got, last, longest = [], None, 0
            for event in cluster.stream(other):
                now = time.monotonic()
                if last is None:
                    all_stream.wait(20)
                else:
                    longest = max(longest, now - last)
                last = now
                got += [token for choice in event["choices"] for token in choice["token_ids"]]
            return got, longest

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            others = [pool.submit(read_along, i) for i in range(4)]
            all_stream.wait(20)
            deaf = [RawClient(cluster.host, cluster.port, receive_buffer=4096)
                    for _ in range(readers)]
            request = post("/v1/completions", body, stream=True)
            assert all(client.send(request) for client in deaf)
            peak = [0]

            def all_cut():
                peak.append(memory(pid)[0])
                return cluster.metrics()[slow] == readers

            wait_until(all_cut, 120, "slow readers disconnected")
            gaps = []
            for each in others:
                got, longest = each.result(60)
                assert got == expected
                gaps.append(longest)
        print(f"{readers} slow readers cut; longest gaps of other streams: "
              f"{', '.join(f'{gap * 1e3:.0f} ms' for gap in gaps)}; "
              f"{(max(peak) - before) / MIB:.1f} MiB more resident")
        assert max(gaps) < 1
        assert max(peak) - before < 16 * MIB + readers * 512 * 1024
        assert_nothing_held(cluster)
        for client in deaf:
            client.close()


def test_an_abort_storm_leaves_nothing_behind_and_the_rest_get_their_answers():
    count = 1000 if LONG else 400
    rounds = 4 if LONG else 2
    bodies = [{"prompt": f"{STORIES[i % len(STORIES)]} {i % 7}", "max_tokens": 60, "seed": i % 11,
               "temperature": 0.8, "return_token_ids": True, "ignore_eos": True}
              for i in range(count)]
    with Cluster("--kv-blocks=1200", "--admission-mode=off", decode=2) as cluster:
        expected = {}
        stayers = [i for i in range(count) if i % 10 == 0]
        for i, response in zip(stayers, in_parallel(lambda i: cluster.complete(bodies[i]),
                                                    stayers, 16)):
            expected[i] = tokens(response)[0]
        resident = []
        for _ in range(rounds):
            clients = [RawClient(cluster.host, cluster.port) for _ in range(count)]
            for client, body in zip(clients, bodies):
                assert client.send(post("/v1/completions", body, stream=True))
            # All at once, wherever they are: queued, prefilling, under way, decoding.
            read_until(clients[1:5], lambda client: client.received.count(b"data: ") > 3, 60,
                       "streams")
            for i, client in enumerate(clients):
                if i not in expected:
                    client.close()
            staying = [clients[i] for i in stayers]
            read_until(staying, RawClient.answered, 60, "the answers of those who stay")
            for i, client in zip(stayers, staying):
                events = client.events()
                assert events[-1] is None
                assert [t for e in events[:-1] for c in e["choices"]
                        for t in c["token_ids"]] == expected[i], f"request {i}"
            close_all(cluster, staying)
            assert_nothing_held(cluster)
            assert cluster.metrics()["baton_requests_waiting"] == 0
            resident.append({name: memory(pid)[0] for name, pid in all_pids(cluster).items()})
        for name, first in resident[0].items():
            print(f"{name}: {[round(each[name] / MIB, 1) for each in resident]} MiB after each round")
            assert resident[-1][name] < first + 16 * MIB
