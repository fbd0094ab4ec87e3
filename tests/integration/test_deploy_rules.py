"""Recording rules and alerts of deploy/prometheus, by Prometheus's own promtool."""

import re
import subprocess

import pytest
import yaml
from cluster import ROOT
from prometheus_server import DEPLOYED, RULES, need

TESTS = sorted((DEPLOYED / "tests").glob("*.yml"))


def all_rules():
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"]
            for rule in group["rules"]]


def alerts():
    return [rule for rule in all_rules() if "alert" in rule]


def promtool(*arguments):
    result = subprocess.run([need("promtool"), *map(str, arguments)], capture_output=True, text=True,
                            timeout=300, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_configuration_is_valid():
    assert "SUCCESS" in promtool("check", "config", DEPLOYED / "prometheus.yml")


@pytest.mark.parametrize("folder", sorted(p.name for p in (DEPLOYED / "targets").iterdir()))
def test_targets_are_valid_and_name_the_role_of_each_worker(folder, tmp_path):
    link = tmp_path / "targets"
    link.symlink_to(DEPLOYED / "targets" / folder)
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    config["rule_files"] = []
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")
    for group in yaml.safe_load((link / "workers.yml").read_text()):
        assert group["labels"]["role"] in ("prefill", "decode", "both")


def test_rules_are_valid():
    assert "FAILED" not in promtool("check", "rules", *RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent_as_expected(path):
    assert "SUCCESS" in promtool("test", "rules", path)


def test_each_alert_is_shown_firing_and_silent():
    fires, silent = set(), set()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case.get("alert_rule_test", []):
                for expected in check["exp_alerts"] or [None]:
                    # The two sides of an imbalance are two rules of one name.
                    side = (expected or {}).get("exp_labels", {}).get("short_of")
                    (fires if expected else silent).add((check["alertname"], side))
    for rule in alerts():
        assert (rule["alert"], rule["labels"].get("short_of")) in fires, rule["alert"]
        assert (rule["alert"], None) in silent, rule["alert"]


def test_each_alert_says_what_it_means_and_has_a_runbook_that_exists():
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert 10 < len(rule["annotations"]["summary"]) < 160, rule["alert"]
        assert len(rule["annotations"]["description"]) > 60, rule["alert"]
        path, anchor = rule["annotations"]["runbook"].split("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.M)
        anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert anchor in anchors, f"{rule['alert']}: {path} has no heading for #{anchor}"


def test_the_fastest_burn_can_be_reached():
    """With an objective below 1 - 1/14.4 even a total outage would not page."""
    objectives = {rule["record"]: float(re.fullmatch(r"vector\((.+)\)", rule["expr"])[1])
                  for rule in all_rules() if rule.get("record", "").endswith("_objective:ratio")}
    assert set(objectives) == {"baton:goodput_objective:ratio", "baton:availability_objective:ratio"}
    for name, objective in objectives.items():
        assert 14.4 * (1 - objective) < 1, name


def test_rules_and_dashboards_read_only_recorded_series_that_exist():
    recorded = {rule["record"] for rule in all_rules() if "record" in rule}
    texts = [rule["expr"] for rule in all_rules()]
    texts += [path.read_text() for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")]
    read = {name for text in texts for name in re.findall(r"baton:[a-z0-9_:]+", text)}
    assert read <= recorded
