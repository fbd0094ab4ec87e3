"""The Grafana dashboards: by schema, and by running each query in a real Prometheus that scrapes a real
cluster under load. A panel whose query finds nothing is an error.

The GPU dashboard alone looks at a synthetic exporter: see synthetic_dcgm_exporter.py."""

import json
import re
import subprocess
import sys
import threading

import jsonschema
import pytest
import yaml
from cluster import ROOT, Cluster, wait_until
from grafana_schema import DASHBOARD, DATASOURCES, PROVIDERS
from prometheus_server import RANGE, RULES, Prometheus
from synthetic_dcgm_exporter import SyntheticDcgmExporter

GRAFANA = ROOT / "deploy/grafana"
BOARDS = {path.stem: json.loads(path.read_text())
          for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
RULE_LIST = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"]
             for rule in group["rules"]]
# A short run inside one host has none of these: no rule may rely on more than this list says.
ABSENT_HERE = re.compile(r"transport=")


def queries(board):
    """[(panel title, PromQL as Grafana would send it)]"""
    names = [variable["name"] for variable in board["templating"]["list"]]
    found = []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", RANGE)
            for name in names:
                text = text.replace(f"${name}", ".+")
            assert "$" not in text, f"{panel['title']}: unknown variable in {text}"
            found.append((panel["title"], text))
    return found


class Load:
    """Two clients that keep asking until the block ends: prompts that repeat and prompts that do not."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._stop = threading.Event()
        self._failure = None
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(2)]

    def _run(self, client):
        turn = 0
        try:
            while not self._stop.is_set():
                turn += 1
                words = "Once upon a time there was a fox. " * (1 + turn % 4)
                self._cluster.complete({"prompt": f"{words} {client} {turn}", "max_tokens": 12,
                                        "ignore_eos": True})
        except Exception as error:  # shown where the block ends
            self._failure = error

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._failure is None, self._failure


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """(Prometheus, cluster): one that watches the other under load, warm: its windows hold samples."""
    # Every request is handed over, or there would be no transfers to look at.
    with Cluster("--conditional-disaggregation=off") as cluster, SyntheticDcgmExporter() as dcgm:
        workers = [{"targets": [f"127.0.0.1:{ports['admin_port']}"],
                    "labels": {"role": name.split("-")[0]}}
                   for name, ports in cluster.workers().items()]
        targets = {"router.yml": [{"targets": [f"{cluster.host}:{cluster.port}"]}],
                   "workers.yml": workers, "gpu.yml": [{"targets": [dcgm.address]}]}
        with Prometheus(tmp_path_factory.mktemp("prometheus"), targets) as server, Load(cluster):
            wait_until(lambda: server.has_value("baton:kv_transfer_bandwidth:rate5m"), 60,
                       "handoffs in a recording rule")
            yield server, cluster


@pytest.fixture(scope="module")
def prometheus(watched):
    return watched[0]


def test_there_are_four_dashboards():
    assert {board["uid"] for board in BOARDS.values()} == {"baton-slo", "baton-flow",
                                                           "baton-engine", "baton-gpu"}


def test_files_are_what_the_script_makes():
    subprocess.run([sys.executable, "-B", GRAFANA / "make_dashboards.py", "--check"], check=True)


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard_has_the_shape_that_grafana_reads(name):
    board = BOARDS[name]
    jsonschema.validate(board, DASHBOARD)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    cells = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        taken = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"])
                 for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not taken & cells, f"{panel['title']} overlaps another panel"
        cells |= taken


def test_provisioning_has_the_shape_that_grafana_reads():
    datasources = yaml.safe_load(
        (GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/baton.yml").read_text())
    jsonschema.validate(datasources, DATASOURCES)
    jsonschema.validate(providers, PROVIDERS)
    # The panels find the data source, and the provider the dashboards that compose mounts.
    assert datasources["datasources"][0]["uid"] == "baton-prometheus"
    path = providers["providers"][0]["options"]["path"]
    assert f"/grafana/dashboards:{path}:ro" in (ROOT / "deploy/compose.yaml").read_text()


def test_all_targets_are_healthy(prometheus):
    def healthy():
        targets = prometheus.targets()
        return len(targets) == 5 and all(target["health"] == "up" for target in targets)

    wait_until(healthy, 30, "5 healthy targets")


def test_all_rules_evaluate(prometheus):
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 60
    for rule in rules:
        assert rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}"


def test_every_name_in_rules_and_dashboards_is_in_the_metrics_of_a_process(watched):
    """A name that no process has would be an empty panel, or an alert that can never fire."""
    _, cluster = watched
    served = {re.match(r"\w+", series)[0]
              for worker in (None, *cluster.workers()) for series in cluster.metrics(worker)}
    texts = [rule["expr"] for rule in RULE_LIST]
    texts += [text for board in BOARDS.values() for _, text in queries(board)]
    texts += [variable["definition"] for board in BOARDS.values()
              for variable in board["templating"]["list"]]
    read = {name for text in texts for name in re.findall(r"\bbaton_\w+", text)}
    assert len(read) > 30
    assert read <= served, f"no process has {sorted(read - served)}"


def test_all_series_that_rules_read_exist(prometheus):
    selectors = {match[0] for rule in RULE_LIST
                 for match in re.finditer(r"\b(?:baton_\w+|up)\b(?:\{[^}]*\})?", rule["expr"])}
    assert len(selectors) > 30
    for selector in sorted(selectors):
        if not ABSENT_HERE.search(selector):
            assert prometheus.query(selector), f"no series {selector}"


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_is_empty(prometheus, name):
    for title, text in queries(BOARDS[name]):
        wait_until(lambda text=text: prometheus.has_value(text), 30, f"a value for {title}: {text}")


@pytest.mark.parametrize("name", BOARDS)
def test_each_variable_has_values_to_choose_from(prometheus, name):
    for variable in BOARDS[name]["templating"]["list"]:
        series, label = re.fullmatch(r"label_values\((\w+), (\w+)\)",
                                     variable["definition"]).groups()
        assert variable["query"]["query"] == variable["definition"]
        assert [labels for labels, _ in prometheus.query(f"group by ({label}) ({series})")
                if labels.get(label)], f"${variable['name']} has no values"


def test_an_empty_query_is_noticed(prometheus):
    assert not prometheus.has_value("baton_no_such_series")
    assert not prometheus.has_value("histogram_quantile(0.5, sum by (le) (rate("
                                    'baton_step_seconds_bucket{worker="nobody"}[30s])))')
    assert not prometheus.has_value("0 * (vector(0) / 0)")
