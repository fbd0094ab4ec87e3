"""Routers and workers started one by one, so that a test may stop and replace each of them."""

import http.client
import json
import os
import resource
import signal
import subprocess
import threading

from cluster import BATON, DEMO, START_TIMEOUT_S, STOP_TIMEOUT_S, http_get, wait_until


class Process:
    """`baton WORDS…` with its ports, its log and its end."""

    def __init__(self, words, files=None, binary=BATON):
        reading, writing = os.pipe()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}

        def limit_files():
            if files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        self.process = subprocess.Popen(
            [str(binary), *words, "--log-json", "--ready-fd", str(writing)], pass_fds=[writing],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=environment, preexec_fn=limit_files)
        os.close(writing)
        self.stderr = []
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        self._report = os.fdopen(reading)
        line = self._report.readline()  # ends at the latest with the process
        if not line.startswith("listening "):
            self.process.wait(START_TIMEOUT_S)
            raise AssertionError(f"{words[0]} did not start: {''.join(self.stderr[-20:])}")
        self.ports = [int(port) for port in line.split()[1:]]

    def _read_stderr(self):
        for line in self.process.stderr:
            self.stderr.append(line)

    @property
    def pid(self):
        return self.process.pid

    def events(self, event):
        found = []
        for line in list(self.stderr):
            if line.startswith("{") and f'"event":"{event}"' in line:
                found.append(json.loads(line))
        return found

    def wait_ready(self):
        """Of a router: it has found the workers that it needs."""
        assert self._report.readline() == "ready\n", "".join(self.stderr[-20:])

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def end(self, timeout_s=STOP_TIMEOUT_S):
        """Its exit status."""
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._report.close()


def start_worker(name, role, *arguments, port=0, model=DEMO):
    return Process(["worker", "--role", role, "--id", name, "--model", str(model),
                    "--control-port", str(port), "--kv-blocks", "1000", *arguments])


def start_router(workers, *arguments, port=0, model=DEMO, **options):
    """`workers`: their processes."""
    addresses = ",".join(f"127.0.0.1:{worker.ports[0]}" for worker in workers)
    return Process(["router", "--model", str(model), "--workers", addresses, "--port", str(port),
                    *arguments], **options)


def get(port, path, timeout=10):
    """(status, body)"""
    return http_get("127.0.0.1", port, path, timeout)


def post(port, body, path="/v1/completions", timeout=60):
    """(status, headers, parsed body)"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), json.loads(response.read())
    finally:
        connection.close()


class Cell:
    """Router and workers as processes of their own; a context manager. Every worker keeps its port
    when it is replaced."""

    def __init__(self, prefill=2, decode=2, router_arguments=(), worker_arguments=()):
        self.workers = {}
        self._worker_arguments = worker_arguments
        self._router_arguments = router_arguments
        self._gone = []
        for role, count in (("prefill", prefill), ("decode", decode)):
            for index in range(count):
                name = f"{role}-{index}"
                self.workers[name] = start_worker(name, role, *worker_arguments)
        self.router = start_router(self.workers.values(), *router_arguments)
        self.port = self.router.ports[0]
        self.wait_whole()

    def live(self):
        """The workers that the router sees alive and not draining."""
        try:
            status, text = get(self.port, "/cluster")
        except (OSError, http.client.HTTPException):
            return set()
        if status != 200:
            return set()
        return {worker["id"] for worker in json.loads(text)["workers"]
                if worker["alive"] and not worker["draining"]}

    def times_up(self, name):
        return sum(event["worker"] == name for event in self.router.events("worker up"))

    def wait_whole(self):
        wait_until(lambda: self.live() == set(self.workers), START_TIMEOUT_S, "all workers up")

    def replace_worker(self, name):
        """SIGTERM, its end, and another one at its port; returns when the router uses it."""
        old = self.workers[name]
        times_up = self.times_up(name)
        old.signal()
        code = old.end()
        assert code == 0, f"{name} ended with {code}: {''.join(old.stderr[-20:])}"
        self._gone.append(old)
        self.workers[name] = start_worker(name, name.split("-")[0], *self._worker_arguments,
                                          port=old.ports[0])
        wait_until(lambda: self.times_up(name) > times_up and name in self.live(), START_TIMEOUT_S,
                   f"{name} back")

    def start_router(self):
        """Another one at the same port, after the end of the last."""
        self._gone.append(self.router)
        self.router = start_router(self.workers.values(), *self._router_arguments, port=self.port)
        self.wait_whole()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        everybody = [self.router, *self.workers.values(), *self._gone]
        if kind is None:
            for process in [self.router, *self.workers.values()]:
                if process.process.poll() is None:
                    process.signal()
                    code = process.end()
                    assert code == 0, f"exit status {code}: {''.join(process.stderr[-20:])}"
        else:
            for process in everybody:
                print("".join(process.stderr[-15:]))
        for process in everybody:
            process.close()
