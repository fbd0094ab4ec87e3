"""Starts real Baton clusters for the integration tests and talks to them.

Everything waits with a deadline on something observable (a line on stdout, a metric, the end of a
process); nothing sleeps for a fixed time to let something happen.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATON = pathlib.Path(os.environ.get("BATON_BINARY", ROOT / "build/release/baton"))
DEMO = ROOT / "models/demo"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 90


def wait_until(condition, timeout_s, what):
    """Polls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        threading.Event().wait(0.02)  # a polling interval, not a synchronisation


def http_get(host, port, path, timeout):
    """(status, body)"""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Cluster:
    """`baton up` in a process of its own. A context manager: leaving it drains and checks exit 0."""

    def __init__(self, *arguments, model=DEMO, prefill=1, decode=1, colocated=False, binary=BATON,
                 extra_environment=None):
        words = [str(binary), "up", "--model", str(model), "--port", "0", "--log-json",
                 "--decode", str(decode)]
        words += ["--colocated"] if colocated else ["--prefill", str(prefill)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
        environment.update(extra_environment or {})
        self.process = subprocess.Popen(words + list(arguments), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []  # parsed JSON lines of all processes
        self.stderr = []
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self.url = None
        self._readers = [threading.Thread(target=self._read_stdout, daemon=True),
                         threading.Thread(target=self._read_stderr, daemon=True)]
        for reader in self._readers:
            reader.start()
        if not self._ready.wait(START_TIMEOUT_S) or self.url is None:
            self._kill()
            raise AssertionError("cluster did not start:\n" + "".join(self.stderr[-40:]))
        # Logged before the line on stdout, but read by another thread.
        wait_until(lambda: self.events("router started"), START_TIMEOUT_S, "the log is read")
        parsed = urllib.parse.urlparse(self.url)
        self.host, self.port = parsed.hostname, parsed.port

    def _read_stdout(self):
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.url = line.split()[1]
                self._ready.set()
        self._ready.set()

    def _read_stderr(self):
        for line in self.process.stderr:
            with self._lock:
                self.stderr.append(line)
                if line.startswith("{"):
                    try:
                        self.log.append(json.loads(line))
                    except ValueError:
                        pass

    def events(self, event):
        with self._lock:
            return [line for line in self.log if line.get("event") == event]

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self._kill()
            print("".join(self.stderr[-60:]))
            return
        self.stop()

    def _kill(self):
        """Its children end with it; the last of them closes the log."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(STOP_TIMEOUT_S)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_TIMEOUT_S)
        for reader in self._readers:
            reader.join(5)
        assert code == 0, f"exit status {code}:\n" + "".join(self.stderr[-40:])

    # ---- processes

    def workers(self):
        """{worker id: {"pid", "control_port", "admin_port"}} as last started."""
        found = {}
        for line in self.events("worker started"):
            found[line["worker"]] = {key: int(line[key])
                                     for key in ("pid", "control_port", "admin_port")}
        for line in self.events("worker restarted"):
            found[line["worker"]]["pid"] = int(line["pid"])
        return found

    def ranks(self, worker):
        """Process ids of a worker's other ranks."""
        parent = self.workers()[worker]["pid"]
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
        return found

    def live_workers(self):
        """The ids of the workers that the router sees alive."""
        return {worker["id"] for worker in json.loads(self.request("GET", "/cluster")[2])["workers"]
                if worker["alive"]}

    def kill(self, worker, signal_number=signal.SIGKILL):
        os.kill(self.workers()[worker]["pid"], signal_number)

    # ---- HTTP

    def connect(self, timeout=120):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, bytes)"""
        connection = self.connect(timeout)
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, data,
                               {"content-type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def complete(self, body, path="/v1/completions", timeout=120):
        """The parsed answer of a non-streamed request that must succeed."""
        status, _, data = self.request("POST", path, body, timeout=timeout)
        assert status == 200, f"{status}: {data[:500]}"
        return json.loads(data)

    def stream(self, body, path="/v1/completions", timeout=120):
        """Yields the events of a streamed request that must start well; errors raise StreamError."""
        connection = self.connect(timeout)
        try:
            connection.request("POST", path, json.dumps({**body, "stream": True}),
                               {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise StreamError(response.status, json.loads(response.read())["error"])
            while line := response.readline():
                if line == b"data: [DONE]\n":
                    return
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise StreamError(200, event["error"])
                    yield event
            raise AssertionError("the stream ended without [DONE]")
        finally:
            connection.close()

    def metrics(self, worker=None):
        """{series with labels: value} of the router, or of a worker."""
        if worker is None:
            text = self.request("GET", "/metrics")[2].decode()
        else:
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.workers()[worker]["admin_port"], timeout=10)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
        return {match[1]: float(match[2])
                for match in re.finditer(r"^(baton_\S+?(?:\{.*\})?) (\S+)$", text, re.M)}

    def blocks(self, worker):
        """{state: count} of the worker's KV blocks."""
        census = {}
        for series, value in self.metrics(worker).items():
            match = re.match(r'baton_kv_blocks\{.*state="(\w+)"', series)
            if match:
                census[match[1]] = int(value)
        return census


class StreamError(Exception):
    """A request that ended with a typed error instead of an answer."""

    def __init__(self, status, error):
        super().__init__(f"{status}: {error}")
        self.status = status
        self.error = error


def in_parallel(function, items, workers):
    """[function(item)] in order, `workers` at a time."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))
