"""`baton bench serve` against a real cluster, and against servers that are down, slow or lying."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
from cluster import BATON, Cluster, wait_until
from lying_server import GOOD, LIES, LyingServer, status

CLASSES = "name=chat;ttft_ms=5000;tpot_ms=500,name=batch;ttft_ms=60000;tpot_ms=5000"


@pytest.fixture(scope="module")
def cluster():
    with Cluster("--slo-classes", CLASSES) as running:
        yield running


def bench(url, *arguments, timeout=60):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
    return subprocess.run([str(BATON), "bench", "serve", f"--base-url={url}", *arguments],
                          capture_output=True, text=True, timeout=timeout, env=environment)


def measured(url, tmp_path, *arguments):
    """The JSON report of a run that must end well."""
    path = tmp_path / "report.json"
    result = bench(url, f"--json={path}", "--records", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(path.read_text())


def field(text, label):
    match = re.search(rf"^{re.escape(label)}: +(.*)$", text, re.M)
    assert match, f"no {label} in:\n{text}"
    return match[1]


def shown_in_browser(path):
    """The page's document after its scripts have run."""
    chromium = shutil.which("chromium")
    assert chromium, "tools/install_deps.sh --test installs chromium"
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
             "--virtual-time-budget=3000", "--dump-dom", path.as_uri()],
            capture_output=True, text=True, timeout=60).stdout


# ---- a real cluster


def test_text_json_and_html_tell_the_same_run(cluster, tmp_path):
    page, data = tmp_path / "report.html", tmp_path / "report.json"
    result = bench(cluster.url, "--rate=40", "--num-requests=40", "--warmup=5",
                   "--lengths=fixed:64/16", "--slo-class=chat=0.75,5000,500",
                   "--slo-class=batch=0.25,60000,-", f"--html={page}", f"--json={data}")
    assert result.returncode == 0, result.stderr
    text = result.stdout
    assert field(text, "Successful requests") == "40"
    assert field(text, "Failed requests") == "0"
    assert field(text, "Warm-up requests (not measured)") == "5"
    assert field(text, "Total input tokens") == str(40 * 64)
    assert field(text, "Total generated tokens") == str(40 * 16)
    for label in ("Mean TTFT (ms)", "P90 TPOT (ms)", "P99 ITL (ms)", "Max ITL (ms)",
                  "P99 gap 2 (ms)", "Median E2EL (ms)", "Request goodput (req/s)",
                  "P99 send lateness (ms)", "P99 read lag (ms)", "Client CPU per token (µs)"):
        assert float(field(text, label)) >= 0, label

    report = json.loads(data.read_text())
    summary = report["summary"]
    assert summary["succeeded"] == 40 and summary["warmup_requests"] == 5
    assert field(text, "Mean TTFT (ms)") == f"{summary['ttft_ms']['mean']:.2f}"
    assert 0 < summary["ttft_ms"]["p50"] <= summary["ttft_ms"]["p99"] <= summary["e2e_ms"]["max"]
    classes = summary["attainment_by_class"]
    assert classes["chat"]["requests"] + classes["batch"]["requests"] == 40
    assert classes["chat"]["requests"] > classes["batch"]["requests"] > 0
    assert summary["itl_ms"]["count"] == 40 * 15
    assert report["runs"][0]["client"]["output_tokens"] == 45 * 16

    shown = shown_in_browser(page)
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", shown, flags=re.S)
    for words in ("Serving benchmark", "Time to first token", "Attainment over time", "chat",
                  "Attainment against arrival rate", "Prompt tokens", "The load generator itself"):
        assert words in text, words
    assert text.count("<circle") >= 40 and text.count("<svg") >= 10


def test_one_seed_is_one_workload(cluster, tmp_path):
    arguments = ["--rate=60", "--num-requests=12", "--lengths=uniform:20-60/4-8"]
    plans = []
    for seed in (3, 3, 4):
        report = measured(cluster.url, tmp_path, *arguments, f"--seed={seed}")
        plans.append([(round(one["intended_ms"], 3), one["planned_prompt_tokens"],
                       one["asked_tokens"]) for one in report["runs"][0]["records"]])
    assert plans[0] == plans[1] != plans[2]


def test_azure_trace_is_replayed(cluster, tmp_path):
    trace = tmp_path / "azure.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                     "2023-11-16 18:15:46.6805900,40,5\n"
                     "2023-11-16 18:15:47.1805900,30,7\n"
                     "2023-11-16 18:15:49.6805900,20,6\n")
    report = measured(cluster.url, tmp_path, "--arrival=trace", f"--trace={trace}", "--speedup=5",
                      "--length-scale=2")
    records = report["runs"][0]["records"]
    assert [(one["prompt_tokens"], one["output_tokens"]) for one in records] == [
        (80, 10), (60, 14), (40, 12)]
    assert [round(one["intended_ms"]) for one in records] == [0, 100, 600]
    assert report["trace_speedup"] == 5


def test_mooncake_trace_keeps_its_shared_prefixes(cluster, tmp_path):
    trace = tmp_path / "mooncake.jsonl"
    rows = [(0, [7, 8]), (1000, [7, 8, 9]), (2000, [7, 8, 10]), (3000, [11, 12])]
    trace.write_text("".join(
        json.dumps({"timestamp": at, "input_length": 512 * len(blocks), "output_length": 32,
                    "hash_ids": blocks}) + "\n" for at, blocks in rows))
    report = measured(cluster.url, tmp_path, "--arrival=trace", f"--trace={trace}", "--speedup=4",
                      "--length-scale=0.25")
    records = report["runs"][0]["records"]
    assert [one["prompt_tokens"] for one in records] == [256, 384, 384, 256]
    first, second, third, other = [one["cached_tokens"] for one in records]
    assert first == 0 and other == 0
    assert 200 <= second <= 256 and 200 <= third <= 256  # two blocks of 128, whole KV blocks of them


@pytest.mark.parametrize("name, lines, message", [
    ("t.csv", ["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:15:46,40,5",
               "2023-11-16 18:15:47,forty,5"], ":3: "),
    ("t.csv", ["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:15:46,40"], ":2: "),
    ("t.jsonl", ['{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1]}',
                 '{"timestamp": 1, "input_length": '], ":2: "),
])
def test_a_malformed_trace_row_is_named(tmp_path, name, lines, message):
    trace = tmp_path / name
    trace.write_text("\n".join(lines) + "\n")
    result = bench("http://127.0.0.1:1", "--arrival=trace", f"--trace={trace}")
    assert result.returncode == 2
    assert f"{trace}{message}" in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_class_that_the_server_does_not_know_is_found_before_the_run(cluster):
    result = bench(cluster.url, "--slo-class=gold=1,100,10")
    assert result.returncode == 2 and result.stdout == ""
    assert 'refuses "gold"' in result.stderr and "default, chat, batch" in result.stderr


# ---- wrong settings


@pytest.mark.parametrize("arguments, message", [
    (["--rate=-1"], "expected a number from 0"),
    (["--arrival=weibull"], "expected one of poisson, gamma"),
    (["--lengths=zipf:1/2"], "unknown distribution"),
    (["--arrival=trace", "--trace=/nowhere.csv"], "cannot read /nowhere.csv"),
    (["--trace=/nowhere.csv", "--lengths=fixed:1/1"], "neither --arrival nor --lengths says trace"),
    (["--slo=fast"], "TTFT_MS:TPOT_MS"),
    (["--slo-class=a=1,2,3", "--slo-class=a=1,2,3"], "given twice"),
    (["--json=/nowhere/report.json"], 'json: cannot write "/nowhere/report.json"'),
    (["--html=/tmp"], "it is a directory"),
    (["--records"], "only with --json"),
    (["--base-url=https://x"], "TLS is not supported"),
    (["--header=no colon"], "expected NAME:VALUE"),
    (["--model=other"], 'the server has no "other"; it has liar'),
])
def test_wrong_settings_end_before_anything_is_sent(arguments, message):
    with LyingServer(lambda n: GOOD) as server:
        url = [] if arguments[0].startswith("--base-url") else [f"--base-url={server.url}"]
        result = subprocess.run([str(BATON), "bench", "serve", *url, *arguments],
                                capture_output=True, text=True, timeout=30)
        assert result.returncode == 2
        assert message in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
        assert server.completions == []


def test_help_tells_the_exit_status():
    text = subprocess.run([str(BATON), "bench", "serve", "--help"], capture_output=True,
                          text=True).stdout
    assert "Exit status:" in text
    for option in ("--rate", "--trace", "--slo-class", "--warmup", "--html", "--json"):
        assert f"\n  {option} " in text


# ---- servers that are down, slow or lying


QUICK = ["--rate=100", "--num-requests=10", "--lengths=fixed:4/2"]


def failures(url, tmp_path, *arguments):
    """{reason: (count, first detail)} of a run in which nothing is answered well."""
    path = tmp_path / "report.json"
    started = time.monotonic()
    result = bench(url, *QUICK, f"--json={path}", *arguments)
    assert time.monotonic() - started < 15
    assert result.returncode == 1, result.stdout + result.stderr
    found = {one["reason"]: (one["count"], one["first_detail"])
             for one in json.loads(path.read_text())["summary"]["failures"]}
    for reason, (count, _) in found.items():
        assert field(result.stdout, reason) == str(count)
    return found


@pytest.mark.parametrize("lie, reason, detail", [
    ("no_done", "no_done", ""),
    ("bad_json", "bad_json", '{"choices": [{"text'),
    ("cut", "disconnected", "after 1 tokens"),
    ("http_500", "bad_status (HTTP 500)", "the engine fell over"),
    ("http_429", "rejected (HTTP 429)", "full"),
    ("not_http", "bad_http", ""),
    ("nothing", "disconnected", "before the answer"),
])
def test_a_lie_is_counted_and_named(tmp_path, lie, reason, detail):
    with LyingServer(lambda n: LIES[lie]) as server:
        found = failures(server.url, tmp_path)
    assert list(found) == [reason]
    count, first = found[reason]
    assert count == 10 and detail in first


def test_silence_is_a_timeout(tmp_path):
    with LyingServer(lambda n: None) as server:
        found = failures(server.url, tmp_path, "--timeout=300ms")
    assert found == {"timed_out": (10, "no end within 300ms")}


def test_a_server_that_accepts_and_says_nothing_at_all(tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        result = bench(url, *QUICK, "--timeout=300ms")
        assert result.returncode == 1
        assert "no answer within 300ms" in result.stderr
        found = failures(url, tmp_path, "--timeout=300ms", "--skip-probe", "--model=m")
    assert found == {"timed_out": (10, "no end within 300ms")}


def test_nobody_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    result = bench(url, *QUICK)
    assert result.returncode == 1
    assert "cannot connect" in result.stderr and len(result.stderr.splitlines()) == 1
    found = failures(url, tmp_path, "--skip-probe", "--model=m")
    assert found["connect_failed"][0] == 10 and "refused" in found["connect_failed"][1]


def test_some_answers_are_a_result(tmp_path):
    with LyingServer(lambda n: GOOD if n % 2 else status(429, "full")) as server:
        report = measured(server.url, tmp_path, *QUICK, "--slo=60000:60000")
    summary = report["summary"]
    assert summary["succeeded"] == 5
    assert summary["attainment"]["fraction"] == 0.5  # a rejected request is not good
    assert summary["attainment"]["not_served"] == 5
    assert any("request before the run failed" in note for note in report["notes"])


def test_what_is_sent_is_what_was_asked(tmp_path):
    with LyingServer(lambda n: GOOD) as server:
        measured(server.url, tmp_path, *QUICK, "--slo-class=chat=1,100,10", "--header=x-key: secret",
                 '--extra-body={"top_k": 5}', "--temperature=0.5", "--warmup=2")
        sent = server.completions[2:]  # one request before the run, and one for the class
    assert len(sent) == 12
    for headers, body in sent:
        assert headers["x-slo-class"] == "chat" and headers["x-key"] == "secret"
        assert body["model"] == "liar" and body["stream"] is True and body["ignore_eos"] is True
        assert len(body["prompt"]) == 4 and body["max_tokens"] == 2
        assert body["top_k"] == 5 and body["temperature"] == 0.5
        assert all(0 <= token < 1000 for token in body["prompt"])


def test_error_text_cannot_run_in_the_page(tmp_path):
    attack = "</script><script>document.title = 'owned'</script><img src=x onerror=alert(1)>"
    page = tmp_path / "report.html"
    with LyingServer(lambda n: status(500, attack)) as server:
        result = bench(server.url, *QUICK, f"--html={page}")
    assert result.returncode == 1
    shown = shown_in_browser(page)
    assert "<title>owned" not in shown and "<img" not in shown
    assert "&lt;/script&gt;&lt;script&gt;document.title" in shown


def test_a_signal_ends_the_run_with_a_report(tmp_path):
    path = tmp_path / "report.json"
    with LyingServer(lambda n: GOOD) as server:
        process = subprocess.Popen(
            [str(BATON), "bench", "serve", f"--base-url={server.url}", "--rate=50",
             "--num-requests=100000", "--lengths=fixed:4/2", f"--json={path}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(server.completions) > 5, 30, "requests")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "interrupted" in output
    report = json.loads(path.read_text())
    assert report["runs"][0]["interrupted"] is True and report["summary"]["succeeded"] > 0


@pytest.mark.alone
def test_client_overhead_is_measured():
    """The measuring script itself, on a small load."""
    root = pathlib.Path(__file__).parents[2]
    source = BATON.parent / "bench/sse_source"
    if not source.exists():
        pytest.skip("built without benchmarks")
    result = subprocess.run(
        [str(root / "bench/client_overhead.py"), f"--build={BATON.parent}", "--streams=20",
         "--seconds=1", "--stream-seconds=1", "--lag-ms=1000"],
        capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "cut 0" in result.stdout
