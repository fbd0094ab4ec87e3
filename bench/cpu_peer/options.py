"""Compares Baton's forward pass on the CPU with llama.cpp's.

Both keep the same random weights loaded, in two processes that wait while the other runs, two
threads each, pinned to the same two CPUs. Each round measures the machine's limits, then every
point on both, Baton first in one round and llama.cpp in the next. Before the rounds llama.cpp's
settings are tried at every point, and the fastest is kept; and the logits of one prompt are
compared: that the work is the same.

Other processes spoil such a comparison: a thread that waits for one that was interrupted loses the
whole time slice. What was measured beside more than 5 % of other load is measured again, and the
report says how much there was. A machine that is never quiet can still compare one thread by its
CPU time (--cpu-time).
"""

import argparse
import os
import pathlib


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/cpu_peer.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true",
                        help="also int8 and int4 weights, and the shape of TinyLlama 1.1 B")
    parser.add_argument("--models", default="b,c", help="with --all: which of them, default: %(default)s")
    parser.add_argument("--quick", action="store_true",
                        help="two rounds, one prefill a round: a smoke test")
    parser.add_argument("--cpu-time", action="store_true",
                        help="one thread, CPU time in the place of wall-clock time: what can still "
                        "be compared on a busy machine")
    parser.add_argument("--rounds", type=int, help="default: 5, with --quick 2")
    parser.add_argument("--cpus", default=None, help="a CPU for each thread, default: the first two")
    parser.add_argument("--json", type=pathlib.Path, help="write every time measured to this file")
    parser.add_argument("--build", type=pathlib.Path, default="build/release",
                        help="Baton's build, default: %(default)s")
    parser.add_argument("--work", type=pathlib.Path, default="build/peer",
                        help="where models are kept, default: %(default)s")
    options = parser.parse_args()
    usable = sorted(os.sched_getaffinity(0))
    try:
        options.cpus = [int(cpu) for cpu in options.cpus.split(",")] if options.cpus else usable[:2]
    except ValueError:
        parser.error(f"--cpus is {options.cpus}; give numbers with commas between them: 0,1")
    if options.cpu_time:
        options.cpus = options.cpus[:1]
    if not set(options.cpus) <= set(usable) or len(set(options.cpus)) != len(options.cpus):
        parser.error(f"--cpus names {options.cpus}; usable here: {usable}")
    options.models = options.models.split(",")
    if not set(options.models) <= {"b", "c"}:
        parser.error(f"--models names {','.join(options.models)}; there are b and c")
    if options.rounds is None:
        options.rounds = 2 if options.quick else 5
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; at least 1")
    return options


if __name__ == "__main__":
    parse_options()
