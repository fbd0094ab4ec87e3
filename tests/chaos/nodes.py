"""Processes of a cluster on hosts of a Network: started, hurt, watched and looked into."""

import http.client
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from cluster import BATON, DEMO, http_get, wait_until  # noqa: E402
from mixed_requests import answer  # noqa: E402

CONTROL_PORT, ADMIN_PORT, KV_PORT, HTTP_PORT = 7000, 7001, 7002, 8000
START_TIMEOUT_S = 60
MAX_FILES = 300  # of each worker: strangers can take that many


class Node:
    """One process that comes back on the same address whenever it is started again."""

    def __init__(self, network, host, words, log_directory, max_files=None):
        self.network, self.host, self.words = network, host, words
        self.max_files = max_files
        self.address = network.hosts[host]
        self.log_path = pathlib.Path(log_directory) / f"{host}.log"
        self.process = None
        self.starts = 0
        self._may_end = set()  # pids that we killed, or took away what they cannot live without
        self._killed = set()

    def start(self):
        self.starts += 1
        with open(self.log_path, "ab") as log:
            environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
            self.process = subprocess.Popen(
                self.network.command(self.host, [str(BATON), *self.words]), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log, env=environment,
                preexec_fn=self.limit_files)

    def limit_files(self):
        if self.max_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.max_files, self.max_files))

    @property
    def pid(self):
        return self.process.pid  # `ip netns exec` becomes the program that it runs

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def may_end(self):
        self._may_end.add(self.pid)

    def killed(self):
        """It was, and is not started again yet."""
        return self.process.pid in self._killed

    def ended_unasked(self):
        return not self.alive() and self.pid not in self._may_end

    def kill(self):
        self.may_end()
        self._killed.add(self.pid)
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)

    def stop(self, timeout_s):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    # ---- what it may use

    def limit(self, what, soft):
        """Sets a soft limit of the running process; returns the one before."""
        before = resource.prlimit(self.pid, what)
        resource.prlimit(self.pid, what, (min(soft, before[1]) if before[1] >= 0 else soft, before[1]))
        return before

    def unlimit(self, what, before):
        if self.alive():
            resource.prlimit(self.pid, what, before)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def _pages(self, field):
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[field]) * resource.getpagesize()

    def address_space(self):
        return self._pages(0)

    def resident(self):
        return self._pages(1)

    def mappings(self):
        with open(f"/proc/{self.pid}/maps") as maps:
            return sum(1 for _ in maps)

    # ---- what it says

    def get(self, path, port, timeout=5):
        return http_get(self.address, port, path, timeout)

    def metrics(self, port):
        text = self.get("/metrics", port)[1]
        return {match[1]: float(match[2])
                for match in re.finditer(r"^(baton_\S+?(?:\{.*\})?) (\S+)$", text, re.M)}

    def busy_blocks(self):
        """{series: count} of the KV blocks that are neither free nor cached."""
        census = {series: value for series, value in self.metrics(ADMIN_PORT).items()
                  if series.startswith("baton_kv_blocks{")}
        if not census:
            return {"baton_kv_blocks": "not said"}
        return {series: value for series, value in census.items()
                if value > 0 and not any(f'state="{state}"' in series for state in ("free", "cached"))}

    def last_words(self):
        """The end of its log: from what ended it, if it says so."""
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()[-80:]
        except OSError:
            return []
        for number, line in enumerate(lines):
            if re.search(r"Fatal|Assertion|Caught signal|Check failed|terminate called", line):
                return lines[max(0, number - 3):number + 16]
        return lines[-12:]


class Nodes:
    """Router, prefill and decode workers on a Network; ends that nobody ordered are remembered."""

    def __init__(self, network, log_directory, prefill, decode, transport="tcp"):
        self.network = network
        self.unordered_ends = []
        self.workers = {}
        for role, count in (("prefill", prefill), ("decode", decode)):
            for index in range(count):
                host = f"{role}-{index}"
                address = network.hosts[host]
                self.workers[host] = Node(network, host, [
                    "worker", "--role", role, "--id", host, "--model", str(DEMO), "--insecure",
                    "--host", address, "--control-port", str(CONTROL_PORT),
                    "--admin-port", str(ADMIN_PORT), "--kv-host", address,
                    "--kv-port", str(KV_PORT), "--kv-transport", transport, "--kv-blocks", "400",
                    "--log-json"], log_directory, MAX_FILES)
        addresses = ",".join(f"{node.address}:{CONTROL_PORT}" for node in self.workers.values())
        self.router = Node(network, "router", [
            "router", "--model", str(DEMO), "--workers", addresses, "--insecure",
            "--host", network.hosts["router"], "--port", str(HTTP_PORT), "--request-timeout", "60s",
            "--log-json"], log_directory)
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    @property
    def all(self):
        return {"router": self.router, **self.workers}

    def __enter__(self):
        for node in self.all.values():
            node.start()
        self._keeper.start()
        try:
            self.wait_whole(START_TIMEOUT_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._keeper.join(5)
        for node in self.all.values():
            node.kill()
            node.process.wait()

    def _keep(self):
        """Starts again what ended."""
        while not self._stopping.wait(0.05):
            for node in self.all.values():
                if node.alive():
                    continue
                if node.ended_unasked():
                    self.unordered_ends.append(
                        (node.host, node.process.returncode, node.last_words()))
                node.start()

    def in_service(self):
        """The workers that the router sees alive; none if it does not answer."""
        try:
            status, text = self.router.get("/cluster", HTTP_PORT, timeout=2)
        except (OSError, http.client.HTTPException):
            return set()
        if status != 200:
            return set()
        return {worker["id"] for worker in json.loads(text)["workers"] if worker["alive"]}

    def ready(self):
        return self.in_service() == set(self.workers)

    def known_answers(self, bodies):
        """What each request is answered while nothing is wrong."""
        connection = http.client.HTTPConnection(self.router.address, HTTP_PORT, timeout=90)
        answers = []
        for body in bodies:
            connection.request("POST", "/v1/completions", json.dumps(body),
                               {"content-type": "application/json"})
            response = connection.getresponse()
            data = response.read()
            assert response.status == 200, f"{response.status}: {data[:300]}"
            answers.append(answer(json.loads(data)))
        connection.close()
        return answers

    def wait_whole(self, timeout_s):
        start = time.monotonic()
        wait_until(self.ready, timeout_s, "all workers in service")
        return time.monotonic() - start
