"""Runs deploy/compose.yaml by the container engine of this machine: podman, else docker."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from cluster import ROOT, wait_until

BASE_IMAGE = "debian:bookworm-slim"
BUILD_TIMEOUT_S = 3600


def run(*words, timeout=300, env=None):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=timeout, env=env, cwd=ROOT)


def engine_that_works():
    """`podman` or `docker`; skips the test, with the reason, where containers cannot run."""
    engine = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if engine is None:
        pytest.skip("no container engine: neither podman nor docker is installed")
    if run(engine, "image", "inspect", BASE_IMAGE).returncode != 0:
        pull = run(engine, "pull", BASE_IMAGE)
        if pull.returncode != 0:
            pytest.skip(f"{engine} cannot get {BASE_IMAGE}: {pull.stderr.strip()[-200:]}")
    trial = run(engine, "run", "--rm", BASE_IMAGE, "true")
    if trial.returncode != 0:
        pytest.skip(f"{engine} cannot run containers here: {trial.stderr.strip()[-200:]}")
    return engine


class Compose:
    """A project of compose.yaml, apart from one that the user may have up. A context manager: leaving it
    removes containers, network and volumes."""

    def __init__(self, engine, profile, ports):
        """ports: {variable of compose.yaml: port}"""
        self._engine = engine
        self._project = f"baton-test-{os.getpid()}"
        self._environment = {**{k: v for k, v in os.environ.items() if not k.startswith("BATON_")},
                             "BATON_IMAGE": "baton:test",
                             "BATON_PROMETHEUS_IMAGE": "baton-prometheus:test",
                             **{name: str(port) for name, port in ports.items()}}
        # Debian's own podman-compose is too old to know profiles.
        program = ([pathlib.Path(sys.executable).parent / "podman-compose"] if engine == "podman"
                   else ["docker", "compose"])
        self._words = [*program, "-p", self._project, "-f", ROOT / "deploy/compose.yaml",
                       "--profile", profile]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for container in self.containers():
                logs = run(self._engine, "logs", "--tail", "20", container)
                print(logs.stdout + logs.stderr)
        self.compose("down", "-v", check=False)
        assert not self.containers()

    def compose(self, *words, check=True):
        result = run(*self._words, *words, env=self._environment)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def up(self, services):
        self.compose("up", "-d", "--no-build", *services)
        for service in services:
            assert self.containers(service), f"{service} has no container"

    def containers(self, service=None):
        """Ids of the project's containers, running or not."""
        labels = [f"com.docker.compose.project={self._project}"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        return run(self._engine, "ps", "-a", "-q", *filters).stdout.split()

    def execute(self, service, *command):
        return run(self._engine, "exec", *self.containers(service), *command).stdout.strip()

    def log(self, service):
        result = run(self._engine, "logs", *self.containers(service))
        return result.stdout + result.stderr

    def state(self, service):
        data = json.loads(run(self._engine, "inspect", *self.containers(service)).stdout)
        return data[0]["State"]

    def wait_healthy(self, service, timeout_s):
        """Until the container's own health check succeeds."""
        def healthy():
            if self._engine == "podman":  # runs checks by systemd's timers, where there is systemd
                return run("podman", "healthcheck", "run",
                           *self.containers(service)).returncode == 0
            return self.state(service)["Health"]["Status"] == "healthy"

        wait_until(healthy, timeout_s, f"{service} healthy")

    def begin_stop(self, containers):
        """SIGTERM, in the background; the process that waits for the containers' end."""
        return subprocess.Popen([self._engine, "stop", "-t", "70", *containers],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self, service):
        """SIGTERM and the exit status that follows."""
        self.begin_stop(self.containers(service)).wait(90)
        return self.state(service)["ExitCode"]
