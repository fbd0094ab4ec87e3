"""`compose up` of the profile cpu, for real: images built, five Baton processes and Prometheus in
containers of one network. Skipped where no container engine works. Grafana stays out, because its image
is not ours to build: its files are tested by test_deploy_dashboards.py.

The tests stop services one after the other, so their order matters.
"""

import json
import re
import urllib.error
import urllib.request

import pytest
from cluster import ROOT, wait_until
from container_engine import BUILD_TIMEOUT_S, Compose, engine_that_works, run
from prometheus_server import PrometheusApi, free_port

WORKERS = ["prefill-0", "prefill-1", "decode-0", "decode-1"]
SERVICES = ["router", *WORKERS, "prometheus"]
PROMPT = "Once upon a time there was a little fox. " * 20


class Deployment:
    def __init__(self, compose, port, prometheus):
        self.compose, self.port, self.prometheus = compose, port, prometheus

    def open(self, path, body=None, timeout=120):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data,
                                         {"content-type": "application/json"})
        return urllib.request.urlopen(request, timeout=timeout)

    def complete(self, body, path="/v1/completions"):
        with self.open(path, body) as response:
            return json.load(response)["choices"][0]

    def ready(self):
        try:
            with self.open("/readyz", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="module")
def deployment():
    engine = engine_that_works()
    built = run(ROOT / "tools/build_images.sh", "test", timeout=BUILD_TIMEOUT_S)
    assert built.returncode == 0, (built.stdout + built.stderr)[-5000:]
    ports = {name: free_port() for name in ("BATON_PORT", "BATON_GRPC_PORT",
                                            "BATON_PROMETHEUS_PORT")}
    with Compose(engine, "cpu", ports) as compose:
        compose.up(SERVICES)
        prometheus = PrometheusApi(f"127.0.0.1:{ports['BATON_PROMETHEUS_PORT']}")
        running = Deployment(compose, ports["BATON_PORT"], prometheus)
        wait_until(running.ready, 120, "the router is ready")
        yield running


def test_every_health_check_succeeds(deployment):
    for service in ["router", *WORKERS]:
        deployment.compose.wait_healthy(service, 60)


def test_processes_have_no_rights(deployment):
    for service in ["router", "decode-0"]:
        assert deployment.compose.execute(service, "id", "-u") == "10001"
        assert deployment.compose.execute(service, "sh", "-c", "touch /x || echo no") == "no"


def test_completions_are_served(deployment):
    choice = deployment.complete({"prompt": "Once upon a time", "max_tokens": 40})
    assert choice["finish_reason"] == "length" and len(choice["text"]) > 40
    chat = {"messages": [{"role": "user", "content": "What sound does a cow make?"}],
            "max_tokens": 20}
    assert deployment.complete(chat, "/v1/chat/completions")["message"]["content"]


def test_all_workers_take_part_and_kv_is_handed_over(deployment):
    def all_alive():
        with deployment.open("/metrics") as response:
            text = response.read().decode()
        return all(f'baton_workers_alive{{role="{role}"}} 2\n' in text
                   for role in ("prefill", "decode"))

    wait_until(all_alive, 60, "two live workers of each role")
    for turn in range(8):
        deployment.complete({"prompt": f"{turn} {PROMPT}", "max_tokens": 4})
    query = "sum(baton_kv_transfer_seconds_count)"
    wait_until(lambda: sum(value for _, value in deployment.prometheus.query(query)) >= 8, 30,
               "8 handoffs in Prometheus")


def test_every_prometheus_target_is_healthy(deployment):
    def healthy():
        targets = deployment.prometheus.targets()
        return len(targets) == 6 and all(target["health"] == "up" for target in targets)

    wait_until(healthy, 60, "6 healthy targets")
    roles = {labels["role"] for labels, _ in deployment.prometheus.query('up{job="baton-worker"}')}
    assert roles == {"prefill", "decode"}


def test_rules_evaluate_and_no_page_fires(deployment):
    def evaluated():
        # Those over days come around every two minutes; test_deploy_dashboards.py evaluates them too.
        rules = [rule for group in deployment.prometheus.api("rules")["groups"]
                 if group["interval"] <= 15 for rule in group["rules"]]
        assert not [rule for rule in rules if rule["health"] == "err"]
        return len(rules) > 50 and all(rule["health"] == "ok" for rule in rules)

    wait_until(evaluated, 60, "every frequent rule evaluated once")
    paging = 'ALERTS{alertstate="firing", severity="page"}'
    assert not deployment.prometheus.query(paging)


def test_a_worker_that_stops_exits_0_counts_as_down_and_is_not_missed(deployment):
    assert deployment.compose.stop("decode-1") == 0
    wait_until(lambda: deployment.prometheus.query('up{instance="decode-1:9200"} == 0'), 60,
               "decode-1 down in Prometheus")
    for _ in range(4):
        deployment.complete({"prompt": PROMPT, "max_tokens": 4})


def test_sigterm_lets_a_running_request_finish(deployment):
    """Sixteen long answers in one request, so that SIGTERM comes well before their end."""
    body = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "stream": True,
            "n": 16}
    router = deployment.compose.containers("router")
    with deployment.open("/v1/completions", body) as response:
        assert response.readline().startswith(b"data: ")
        # Nothing that takes long may come before the rest is read: who does not read is cut.
        stopping = deployment.compose.begin_stop(router)
        events = response.read().decode().split("\n\n")
    assert stopping.wait(90) == 0
    assert "data: [DONE]" in events
    choices = [json.loads(event[6:])["choices"][0] for event in events
               if event.startswith("data: {")]
    ends = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert ends == ["length"] * 16
    assert re.search(r"draining +open_requests=1\b", deployment.compose.log("router"))
    assert deployment.compose.state("router")["ExitCode"] == 0
