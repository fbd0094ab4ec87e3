#!/usr/bin/env python3
"""A prefill and a decode worker as two processes on one GPU, a router in front: whether their answers
are right, and what they serve beside one colocated worker in the same run, and beside themselves
without asynchronous scheduling. See docs/gpu.md.

  bench/gpu_cluster.py [--baton FILE] [--device cuda] [--model SPEC] [--rates LIST] [--requests N]
                       [--lengths fixed:512/64] [--slo TTFT_MS:TPOT_MS] [--quick] [--out FILE]

--model is what load is sent to (default: the shape of Llama-3-8B with random weights); answers are
those of models/demo. --quick: a tiny model and few requests: whether it runs, not how fast.

Needs Python alone; where the system has no cuBLASLt, that of PyTorch's packages is taken. Prints as
it goes. Exit status: 0 all answers are right and everything ran; 1 not; 4 there is no GPU.
"""

import argparse
import http.client
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
import cluster as clusters  # noqa: E402
from cluster import BATON, Cluster, in_parallel  # noqa: E402
from mixed_requests import answer, mixed_requests  # noqa: E402

SEED = 20261122
clusters.START_TIMEOUT_S = 480  # products are tuned on the device, by one worker after the other
# Of a cluster that did not start, or not end well; or of answers or load that did not come.
FAILURES = (AssertionError, OSError, KeyError, ValueError, http.client.HTTPException,
            subprocess.TimeoutExpired)
HANDOFF_ALWAYS = "--conditional-disaggregation=off"


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baton", type=pathlib.Path, default=BATON)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default=f"dummy:{ROOT}/bench/configs/llama3-8b.json")
    parser.add_argument("--rates", default="2,4,8,16")
    parser.add_argument("--requests", type=int, default=60, help="for each rate")
    parser.add_argument("--lengths", default="fixed:512/64")
    parser.add_argument("--slo", default="400:30")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, help="figures as JSON")
    options = parser.parse_args()
    options.baton = options.baton.resolve()
    if options.quick:
        options.model = f"dummy:{ROOT}/bench/configs/gpu-tiny.json"
        options.rates, options.requests = "2", 4
        options.lengths, options.slo = "fixed:24/4", "10000:10000"
    return options


def run(options, *arguments, **settings):
    """The output of a command of baton, and its exit status."""
    done = subprocess.run([str(options.baton), *arguments], capture_output=True, text=True,
                          check=False, **settings)
    return done.stdout + done.stderr, done.returncode


def on_gpu(options, *arguments, model=None, **settings):
    small = ["--kv-blocks=256", "--batch-max-tokens=96", "--batch-max-sequences=8",
             "--calibrate=off"] if options.quick else []
    return Cluster(f"--device={options.device}", *small, *arguments, binary=options.baton,
                   **({"model": model} if model else {}), **settings)


def find_gpus(options):
    """What `baton doctor` says of them."""
    report, _ = run(options, "doctor")
    return report[report.find("GPUs"):]


def use_libraries_of_pytorch():
    """For all processes from now on. False: there are none."""
    packages = importlib.util.find_spec("nvidia")
    folders = sorted({str(library.parent) for base in packages.submodule_search_locations
                      for library in pathlib.Path(base).rglob("libcublasLt.so.*")}
                     if packages else [])
    if folders:
        print(f"no cuBLASLt on the system; taken from {', '.join(folders)}", flush=True)
        paths = [os.environ.get("LD_LIBRARY_PATH"), *folders]
        os.environ["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
    return bool(folders)


def check_answers(options, failures):
    """Handed over, one request at a time and several at once, is as colocated one at a time; and how
    far the CPU agrees."""
    bodies = mixed_requests(SEED, 6 if options.quick else 40)
    for body in bodies:
        if options.quick:
            body.update(prompt=body["prompt"][:200], max_tokens=min(body["max_tokens"], 4))
    with Cluster(colocated=True, binary=options.baton) as cluster:
        on_cpu = in_parallel(lambda body: answer(cluster.complete(body)), bodies, 2)
    # Without it last bits may depend on the batch, and on what a process measured when it started.
    with on_gpu(options, "--batch-invariant", colocated=True) as cluster:
        colocated = [answer(cluster.complete(body)) for body in bodies]
    with on_gpu(options, "--batch-invariant", HANDOFF_ALWAYS) as cluster:
        handed_over = [answer(cluster.complete(body)) for body in bodies]
        together = in_parallel(lambda body: answer(cluster.complete(body)), bodies, 8)
    equal = sum(a == b for a, b in zip(handed_over, colocated))
    at_once = sum(a == b for a, b in zip(together, colocated))
    # The CPU's logprobs differ in their last bits, and so may a draw: only greedy ones are counted.
    greedy = [i for i, body in enumerate(bodies) if body["temperature"] == 0]
    texts = [[[choice[1] for choice in choices] for choices in answers]
             for answers in (on_cpu, colocated)]
    as_cpu = sum(texts[0][i] == texts[1][i] for i in greedy)
    print(f"answers, batch-invariant: {equal} of {len(bodies)} handed over as colocated, {at_once} "
          f"with 8 requests at once (all must be), "
          f"{as_cpu} of {len(greedy)} greedy ones as on the CPU", flush=True)
    if equal < len(bodies):
        failures.append("a handoff changed an answer")
    if at_once < len(bodies):
        failures.append("requests beside it changed an answer")
    if as_cpu * 2 < len(greedy):
        failures.append("most greedy answers differ from the CPU's")
    return {"requests": len(bodies), "handed_over": equal, "at_once": at_once,
            "greedy": len(greedy), "as_cpu": as_cpu}


def keep(options, results):
    """What there is so far: a run may be cut off."""
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


def measure(options, arm, cluster, results):
    for rate in options.rates.split(","):
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            text, status = run(options, "bench", "serve", f"--base-url={cluster.url}",
                               f"--rate={rate}", f"--num-requests={options.requests}",
                               f"--lengths={options.lengths}", f"--slo={options.slo}",
                               "--extra-body={\"ignore_eos\": true}", f"--seed={SEED}",
                               f"--json={report.name}", timeout=600)
            if status != 0:
                results["failures"].append(f"{arm} at {rate}/s: bench serve ended with {status}")
                print(text[-2000:], flush=True)
                return
            summary = json.loads(pathlib.Path(report.name).read_text())["runs"][0]["summary"]
        results["load"].append({"arm": arm, "rate": float(rate), **summary})
        keep(options, results)
        print(f"  {arm:<14}{rate:>6}/s  good {summary['goodput_per_s']:6.2f}/s"
              f"  TTFT p50 {summary['ttft_ms']['p50']:8.1f} p99 {summary['ttft_ms']['p99']:8.1f} ms"
              f"  TPOT p50 {summary['tpot_ms']['p50']:7.2f} p99 {summary['tpot_ms']['p99']:7.2f} ms",
              flush=True)


def main():
    options = parse_options()
    devices = find_gpus(options)
    if "cublasLtCreate" in devices and use_libraries_of_pytorch():
        devices = find_gpus(options)
    print(devices, flush=True)
    if "KV path" not in devices:
        print("no GPU that can be used: nothing was run", file=sys.stderr)
        return 1 if "not usable" in devices else 4
    results = {"doctor": devices, "model": options.model, "lengths": options.lengths,
               "slo": options.slo, "answers": None, "load": [], "failures": []}
    failures = results["failures"]
    try:
        results["answers"] = check_answers(options, failures)
    except FAILURES as error:
        failures.append(f"answers: {error}")
    keep(options, results)
    print(f"{options.model}, {options.lengths} tokens, {options.requests} requests a rate, "
          f"objectives {options.slo} ms", flush=True)
    for arm, flags, settings in (("disaggregated", [], {}),
                                 ("colocated", [], {"colocated": True}),
                                 ("synchronous", ["--async-scheduling=false"], {})):
        try:
            with on_gpu(options, *flags, model=options.model, **settings) as cluster:
                measure(options, arm, cluster, results)
        except FAILURES as error:
            failures.append(f"{arm}: {error}")
    keep(options, results)
    for failure in failures:
        print(f"FAILED: {failure}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
