"""Runs both sides and prints the report; what it does is told in options.py."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

import models
import report
import work
from options import parse_options
from other_load import OtherLoad

HERE = pathlib.Path(__file__).resolve().parent
CONFIGS = {"b": "530m.json", "c": "tinyllama.json"}
PEER_WEIGHTS = {"bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
# A measurement beside more than this of other load is repeated, a few times; the calmest counts.
MOST_OTHER_LOAD = 0.05
ATTEMPTS = 4
# Of bf16 weights, RMS difference over the standard deviation of the logits.
MOST_LOGIT_ERROR = 0.05


class Peer:
    """A process that answers a line of JSON to each line."""

    def __init__(self, name, command, log, env=None):
        self.name, self.log = name, log
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True, env={**os.environ, **(env or {})})
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            last = pathlib.Path(self.log).read_text().strip().splitlines()[-5:]
            raise RuntimeError("\n".join([f"{self.name} ended; the end of {self.log}:", *last]))
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            raise RuntimeError(f"{self.name} said: {line.strip()}") from None
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def run(self, point, options, setting=()):
        """(seconds of the fastest of the repeats, other processes' share of the CPUs meanwhile)"""
        words = " ".join(map(str, setting))
        repeats = 1 if options.quick and point.tokens > 1 else point.repeats
        tried = []
        for _ in range(1 if options.cpu_time else ATTEMPTS):
            load = OtherLoad(options.cpus, self.process.pid)
            answer = self.ask(f"run {point.shape} {repeats} {words}")
            seconds = min(answer["cpu_seconds" if options.cpu_time else "seconds"])
            tried.append((load.share(), seconds))
            if tried[-1][0] <= MOST_OTHER_LOAD:
                break
        share, seconds = min(tried)
        return seconds, share

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure_limits(options):
    """{threads: {limit: value}}"""
    text = subprocess.run(
        [options.build / "bench/cpu_limits", "--cpus", ",".join(map(str, options.cpus))],
        check=True, capture_output=True, text=True).stdout
    return {line["threads"]: line for line in map(json.loads, text.splitlines())}


def check_same_model(baton, llama, config, weights, directory):
    """Greedy tokens and logits of both after one prompt; bf16 must agree."""
    tokens = [i * 31 % config["vocab_size"] for i in range(1, 25)]
    differences, agreed, steps = [], 0, 8
    for _ in range(steps):
        words = " ".join(map(str, tokens))
        rows = []
        for peer in (baton, llama):
            file = directory / "logits.f32"
            peer.ask(f"logits {file} {words}")
            rows.append(np.fromfile(file, dtype=np.float32))
        differences.append(rows[0] - rows[1])
        agreed += rows[0].argmax() == rows[1].argmax()
        tokens.append(int(rows[0].argmax()))
    difference = np.concatenate(differences)
    error = float(np.sqrt(np.mean(difference ** 2)) / rows[0].std())
    print(f"  logits after 24 to 31 tokens: largest difference {np.abs(difference).max():.4f}, "
          f"RMS {error:.4f} of their standard deviation; {agreed} of {steps} greedy tokens agree",
          flush=True)
    if weights == "bf16" and not error < MOST_LOGIT_ERROR:
        raise RuntimeError(f"the models differ: RMS {error:.4f} of the standard deviation, "
                           f"at most {MOST_LOGIT_ERROR} allowed")


def choose_settings(llama, options):
    """{point: llama.cpp's fastest setting}"""
    chosen = {}
    for point in work.POINTS:
        settings = point.settings()
        best = dict.fromkeys(settings, float("inf"))
        for _ in range(1 if options.quick else 2):
            for setting in settings:
                best[setting] = min(best[setting], llama.run(point, options, setting)[0])
        chosen[point.name] = min(best, key=best.get)
        tried = ", ".join(f"{report.setting_name(setting)}: {point.total_tokens / seconds:.1f}"
                          for setting, seconds in best.items())
        print(f"  {point.name} tokens/s by setting: {tried}", flush=True)
    return chosen


def start_peers(options, model, weights):
    """(Baton, llama.cpp, config, bytes that a step reads of each)"""
    directory = options.work / f"model-{model}"
    config = models.make_model(HERE.parent / "configs" / CONFIGS[model], directory)
    gguf_file = models.quantized_gguf(directory, PEER_WEIGHTS[weights], len(options.cpus))
    cpus = ",".join(map(str, options.cpus))
    command = [options.build / "bench/model_bench", directory / "hf", "--serve",
               "--threads", len(options.cpus), "--cpus", cpus]
    if weights != "bf16":
        command += ["--weights", weights]
    baton = Peer("Baton", command, options.work / "baton.log")
    places = ",".join(f"{{{cpu}}}" for cpu in options.cpus)
    llama = Peer("llama.cpp",
                 [sys.executable, HERE / "llama_peer.py", gguf_file,
                  "--threads", len(options.cpus)],
                 options.work / "llama.log", {"OMP_PROC_BIND": "true", "OMP_PLACES": places})
    table = config["vocab_size"] * config["hidden_size"]
    layers = work.linear_parameters(config)
    ours = baton.about["weight_bytes"] * (layers + table) / (layers + 2 * table)
    return baton, llama, config, {"baton": ours, "llama": models.gguf_bytes_of_step(gguf_file)}


def compare(options, model, weights, limits):
    """Appends each round's limits to `limits`; returns what report.print_comparison takes."""
    name = f"model {model}, {weights} against {PEER_WEIGHTS[weights].upper()}"
    print(f"\n{name}", flush=True)
    baton, llama, config, bytes_read = start_peers(options, model, weights)
    try:
        print(f"  Baton: {baton.about['kernels']}\n  llama-cpp-python {llama.about['version']}: "
              f"{llama.about['system']}\n  a call of llama.cpp from here costs "
              f"{llama.about['call_us']:.1f} us", flush=True)
        check_same_model(baton, llama, config, weights, options.work)
        settings = choose_settings(llama, options)
        seconds = {who: {point.name: [] for point in work.POINTS} for who in ("baton", "llama")}
        for of_round in range(options.rounds):
            limits.append(measure_limits(options))
            shares = []
            for point in work.POINTS:
                turns = [("baton", baton, ()), ("llama", llama, settings[point.name])]
                for who, peer, setting in turns if of_round % 2 == 0 else reversed(turns):
                    fastest, share = peer.run(point, options, setting)
                    seconds[who][point.name].append(fastest)
                    shares.append(share)
            print(f"  round {of_round + 1}: other processes took {np.mean(shares):.0%} of the CPUs, "
                  f"at most {max(shares):.0%}", flush=True)
    finally:
        baton.close()
        llama.close()
    return {"name": name, "weights": weights, "config": config, "bytes": bytes_read,
            "settings": settings, "seconds": seconds}


def baton_takes(options, option):
    text = subprocess.run([options.build / "bench/model_bench", "--help"], capture_output=True,
                          text=True, check=True).stdout
    return option in text


def run_all(options):
    wanted = [("b", "bf16")]
    if options.all:
        wanted += [(model, weights) for model in options.models for weights in PEER_WEIGHTS
                   if (model, weights) != ("b", "bf16")]
    limits, done, missing = [], {}, []
    for model, weights in wanted:
        if weights != "bf16" and not baton_takes(options, "--weights"):
            missing.append((model, weights))
            continue
        done[model, weights] = compare(options, model, weights, limits)
    of_machine = report.print_limits(limits)
    ratios = {key: report.print_comparison(comparison, of_machine)
              for key, comparison in done.items()}
    if options.json:
        options.json.write_text(json.dumps(
            {"limits": limits, "comparisons": list(done.values())}, indent=1))
    print()
    for model, weights in missing:
        print(f"model {model}, {weights}: not available, model_bench has no --weights")
    for model, weights in reversed(wanted):  # model b in bf16 last
        label = "cpu_ratio" if (model, weights) == ("b", "bf16") else f"cpu_ratio_{model}_{weights}"
        print(report.ratio_line(label, ratios.get((model, weights))))


def main():
    options = parse_options()
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        run_all(options)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"cpu_peer: {error}")


if __name__ == "__main__":
    main()
