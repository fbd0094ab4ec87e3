#!/usr/bin/env python3
"""Puts errors into the CUDA kernels, one at a time, and sees whether tests find them: those of the
emulation, of the race checker, or of the kernels' PTX.

  tools/mutate_kernels.py                  all of tools/kernel_mutations.py; some minutes
  tools/mutate_kernels.py --only NAME...   those
  tools/mutate_kernels.py --both           also the test that need not find it
  tools/mutate_kernels.py --check          builds nothing: whether every text to replace is there once

Builds and runs in build/mutations, a copy of the working tree. Exit status 1 when a mutation is not
found by the test that should, does not compile, or does not apply.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import time

from kernel_mutations import MODEL_PTX, MODEL_RACES, MUTATIONS, RACES

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "build/mutations"
KERNELS = "engine/kernels/cuda"
TESTS = ["cuda_emulation_test", "cuda_race_test"]  # of the same cases
TIMEOUT_S = 120
TOO_LONG = f"runs for more than {TIMEOUT_S} s"


def mutated(root, mutation):
    """The text of its file with the mutation; dies where it cannot be applied."""
    text = (root / KERNELS / mutation.file).read_text()
    times = text.count(mutation.text)
    if times != 1:
        sys.exit(f"{mutation.name}: its text is in {mutation.file} {times} times, not once")
    return text.replace(mutation.text, mutation.replacement)


def update_copy():
    """Files that are the same stay as they are, so that they are not built again."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, check=True, capture_output=True).stdout.decode()
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for name in names:
        source, target = ROOT / name, COPY / name
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        target.chmod(source.stat().st_mode)
    for old in COPY.rglob("*"):
        name = old.relative_to(COPY)
        if old.is_file() and name.parts[0] != "build" and name.as_posix() not in names:
            old.unlink()


def build(tests):
    return subprocess.run(["tools/build.sh", "--tests", "release", *tests], cwd=COPY, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run(test, tests_filter):
    """Empty if all tests pass, else what was said first of what is wrong."""
    try:
        folder = "model" if test in (MODEL_RACES, MODEL_PTX) else "cuda"
        ran = subprocess.run([COPY / "build/release/tests/unit/engine" / folder / test,
                              f"--gtest_filter={tests_filter}"], cwd=COPY, text=True,
                             errors="replace", timeout=TIMEOUT_S, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return TOO_LONG
    if "Running 0 tests" in ran.stdout:
        sys.exit(f"{test}: no test is named {tests_filter}")
    if ran.returncode == 0:
        return ""
    said = re.search(r"CUDA emulation: ([^\n]*)|(\[  FAILED  \] [\w/.]+)|(CHECK[^\n]*)", ran.stdout)
    return said.group(0) if said else f"status {ran.returncode}"


def try_mutation(mutation, tests):
    """{test: what it said}; None instead of it where the mutation does not compile."""
    file = COPY / KERNELS / mutation.file
    original = file.read_text()
    file.write_text(mutated(COPY, mutation))
    try:
        built = build(tests)
        if built.returncode != 0:
            print(built.stdout)
            return None
        return {test: run(test, mutation.tests) for test in tests}
    finally:
        file.write_text(original)


def tests_of(mutation, both):
    return TESTS if both and mutation.found_by in TESTS else [mutation.found_by]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[])
    parser.add_argument("--both", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    unknown = set(args.only) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        sys.exit(f"no such mutation: {', '.join(sorted(unknown))}")
    chosen = [m for m in MUTATIONS if not args.only or m.name in args.only]
    for mutation in chosen:
        mutated(ROOT, mutation)
    if args.check:
        return 0

    update_copy()
    built = build(sorted({test for m in chosen for test in tests_of(m, args.both)}))
    if built.returncode != 0:
        sys.exit(built.stdout)
    for test, tests_filter in sorted({(m.found_by, m.tests) for m in chosen}):
        said = run(test, tests_filter)
        if said:
            sys.exit(f"without a mutation {test} fails ({tests_filter}): {said}")
    missed = 0
    for mutation in chosen:
        start = time.monotonic()
        results = try_mutation(mutation, tests_of(mutation, args.both))
        took_s = time.monotonic() - start
        said = (results or {}).get(mutation.found_by, "")
        # By what it is there for: the race checker names races. A time limit may be a busy machine.
        names_race = mutation.found_by not in (RACES, MODEL_RACES) or "race" in said
        found = said != "" and said != TOO_LONG and names_race
        missed += not found
        verdict = "found" if found else "NOT FOUND" if results is not None else "NOT COMPILED"
        print(f"{verdict:12} {mutation.name:34} {mutation.file:22} {took_s:4.0f} s")
        for test, said in (results or {}).items():
            print(f"{'':12} {test}: {said or 'passes'}"[:160], flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mutations found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
