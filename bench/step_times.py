#!/usr/bin/env python3
"""Compares the step times that workers with other flags print when they start.

    bench/step_times.py --rounds 5 threads="--threads 2" ranks="--threads 1 --tensor-parallel 2"

Each round starts one worker of every arm in turn, so that a machine that slows down meanwhile slows
all arms. Prints the median and the range of each arm, and the median's ratio to the first arm's.
"""

import argparse
import pathlib
import re
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUMBER = r"(\S+) (m?s)(?: \(extrapolated\))?"
STEP_TIMES = re.compile(rf"step times +prefill {NUMBER} for 512 tokens; "
                        rf"decode {NUMBER} for 1 row, {NUMBER} for 8")
COLUMNS = ["prefill 512", "decode 1", "decode 8"]


def milliseconds(number, unit):
    return float(number) * (1000 if unit == "s" else 1)


def start_once(baton, model, flags):
    """[ms of each of COLUMNS], of a worker that is stopped once it has printed them."""
    command = [baton, "worker", "--model", model, "--max-model-len", "2048", *shlex.split(flags)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        printed = []
        for line in worker.stderr:
            printed.append(line)
            if found := STEP_TIMES.search(line):
                worker.terminate()
                worker.stderr.read()
                groups = found.groups()
                return [milliseconds(*groups[i:i + 2]) for i in range(0, len(groups), 2)]
    sys.exit(f"{shlex.join(command)}: no step times\n{''.join(printed)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", metavar="NAME=FLAGS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=f"dummy:{ROOT}/bench/configs/530m.json")
    parser.add_argument("--baton", default=str(ROOT / "build/release/baton"))
    options = parser.parse_args()
    arms = dict(arm.split("=", 1) for arm in options.arms)
    times = {name: [] for name in arms}
    for round_ in range(options.rounds):
        for name, flags in arms.items():
            times[name].append(start_once(options.baton, options.model, flags))
            print(f"round {round_ + 1}: {name}: {times[name][-1]} ms", file=sys.stderr)
    width = max(map(len, arms))
    print(" " * width, *(f"{column:>30}" for column in COLUMNS))
    first = None
    for name in arms:
        columns = list(zip(*times[name]))
        medians = [statistics.median(column) for column in columns]
        first = first or medians
        cells = (f"{median:.1f} ms ({min(column):.1f}-{max(column):.1f}) {median / base:.2f}x"
                 for median, base, column in zip(medians, first, columns))
        print(f"{name:{width}}", *(f"{cell:>30}" for cell in cells))


if __name__ == "__main__":
    main()
