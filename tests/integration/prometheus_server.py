"""A real Prometheus with the configuration of deploy/prometheus, over given targets.

Only intervals, target files and its own port differ from what is deployed: everything is scraped and
evaluated each second, so that a short run is enough.
"""

import http.client
import json
import math
import shutil
import socket
import subprocess
import urllib.parse

import pytest
import yaml
from cluster import ROOT, wait_until

DEPLOYED = ROOT / "deploy/prometheus"
RULES = sorted((DEPLOYED / "rules").glob("*.yml"))
INTERVAL = "1s"
RANGE = "30s"  # what Grafana would put for $__rate_interval


def need(program):
    """The path of a program that install_deps.sh --test installs; skips the test where it is not."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: tools/install_deps.sh --test")
    return path


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def write_quick_copy(directory, targets, own_address):
    """Copies configuration and rules with short intervals. targets: {file name: target groups}."""
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL,
                        "evaluation_interval": INTERVAL}
    for job in config["scrape_configs"]:
        for group in job.get("static_configs", []):
            group["targets"] = [own_address]
    (directory / "rules").mkdir()
    for path in RULES:
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            group["interval"] = INTERVAL
        (directory / "rules" / path.name).write_text(yaml.safe_dump(rules))
    (directory / "targets").mkdir()
    for name, groups in targets.items():
        (directory / "targets" / name).write_text(yaml.safe_dump(groups))
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))


class PrometheusApi:
    """Asks a running Prometheus at `address`."""

    def __init__(self, address):
        self.address = address

    def _get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def api(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        status, body = self._get(f"/api/v1/{path}" + (f"?{query}" if query else ""))
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", f"{path} {parameters}: {body[:500]}"
        return answer["data"]

    def query(self, expression):
        """[(labels, value)]; a scalar has no labels."""
        data = self.api("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def has_value(self, expression):
        """At least one series with a number: NaN is what a quantile of nothing gives."""
        return any(math.isfinite(value) for _, value in self.query(expression))

    def targets(self):
        return self.api("targets")["activeTargets"]


class Prometheus(PrometheusApi):
    """A process of our own. A context manager; leaving it ends it."""

    def __init__(self, directory, targets):
        binary = need("prometheus")
        super().__init__(f"127.0.0.1:{free_port()}")
        write_quick_copy(directory, targets, self.address)
        self._log = (directory / "log").open("w+")
        self._process = subprocess.Popen(
            [binary, f"--config.file={directory / 'prometheus.yml'}",
             f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={self.address}"],
            stdout=self._log, stderr=subprocess.STDOUT)

    def __enter__(self):
        try:
            wait_until(self._ready, 60, "Prometheus is ready")
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _ready(self):
        if self._process.poll() is not None:
            self._log.seek(0)
            raise AssertionError("Prometheus ended:\n" + self._log.read()[-3000:])
        try:
            return self._get("/-/ready")[0] == 200
        except OSError:
            return False
