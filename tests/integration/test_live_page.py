"""The live page at `/` and `baton top`, against a real cluster under load."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest
from cluster import BATON, Cluster, in_parallel, wait_until


@pytest.fixture(scope="module")
def busy():
    """A cluster that has answered some requests."""
    with Cluster("--conditional-disaggregation=off", decode=2) as cluster:
        body = {"prompt": "Once upon a time there was a", "max_tokens": 60, "ignore_eos": True}
        in_parallel(cluster.complete, [body] * 12, 4)
        yield cluster


def report(cluster):
    return json.loads(cluster.request("GET", "/cluster")[2])


def test_the_report_adds_up(busy):
    def ended():
        return sum(sum(one["results"].values()) for one in report(busy)["classes"])

    wait_until(lambda: ended() == 12, 5, "a fresh report")
    now = report(busy)
    assert now["phase"] == "ready" and now["model"] == "demo"
    assert sum(now["stages"].values()) == 0
    assert now["generation_tokens"] == 12 * 60
    assert [worker["id"] for worker in now["workers"]] == ["prefill-0", "decode-0", "decode-1"]
    assert sum(pair["handoffs"] for pair in now["pairs"]) == 12
    assert {pair["transport"] for pair in now["pairs"]} == {"shm"}


def test_top_prints_one_screen(busy):
    result = subprocess.run([str(BATON), "top", f"--url={busy.url}", "--interval=100ms", "--once"],
                            capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    for word in ("goodput", "queued 0", "prefill-0", "decode-1", "attainment"):
        assert word in result.stdout, result.stdout


def test_top_without_a_router_is_one_clear_line():
    result = subprocess.run([str(BATON), "top", "--url=http://127.0.0.1:1", "--once"],
                            capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert "cannot connect to 127.0.0.1:1" in result.stderr


def test_the_page_shows_the_cluster_in_a_browser(busy):
    chromium = shutil.which("chromium")
    assert chromium, "tools/install_deps.sh --test installs chromium"
    with tempfile.TemporaryDirectory() as profile:
        page = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
             "--virtual-time-budget=4000", "--dump-dom", busy.url + "/"],
            capture_output=True, text=True, timeout=60).stdout
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.S)
    for word in ("prefill-0", "decode-0", "decode-1", "ready", "demo", "shm", "1 prefill : 2 decode"):
        assert word in text, word
    assert 'id="lost" role="alert" style="display: none;"' in text


def test_the_page_needs_nothing_from_outside():
    source = pathlib.Path(__file__).parents[2] / "router/http/live_page.html"
    assert not re.findall(r"""(?:src|href)=["'](?!data:)[^"']+""", source.read_text())
    assert "http://www.w3.org/2000/svg" in source.read_text()  # a name, not a resource
    assert len(re.findall(r"https?://", source.read_text())) == 1
