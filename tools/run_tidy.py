#!/usr/bin/env python3
"""Runs clang-tidy over the sources named on stdin, one process a file.

    git ls-files 'engine/*.cc' | tools/run_tidy.py [-p BUILD_DIR] [-j JOBS]

A file that was clean is not checked again until something changes that clang-tidy reads of it: the
file, the headers in this tree that it reaches (generated ones too), its compile command, .clang-tidy,
the tools' versions. Debian's headers are taken as given. The memory is build/tidy-cache, one empty file
a clean result.

Exit status 1 on a finding, on a file that clang-tidy cannot parse, and on a file that has no compile
command (it is in no target, or the build directory is older than its CMakeLists.txt).
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "tidy-cache"
CACHE_DAYS = 30
# clang does not know some of g++'s warning options, and its warnings are not what we ask here, but
# for those about locks, which g++ does not have. Its errors are: no option hides them.
ARGUMENTS = ["--quiet", "--extra-arg=-Wno-unknown-warning-option", "--extra-arg=-Wno-everything",
             "--extra-arg=-Wthread-safety"]
INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.MULTILINE)
# What clang-tidy says on stderr about a clean file.
CHATTER = re.compile(r"^(\d+ warnings? generated\.)?$")


class Headers:
    """Digests of files and of all the headers in this tree that they reach, each read once."""

    def __init__(self):
        self._files = {}  # path -> (digest, names that it includes)

    def _read(self, path):
        if path not in self._files:
            data = path.read_bytes()
            names = [name.decode() for name in INCLUDE.findall(data)]
            self._files[path] = (hashlib.sha256(data).hexdigest(), names)
        return self._files[path]

    def reach(self, source, folders):
        """[(path, digest)] of `source` and what it includes, directly or not, in path order."""
        found, open_paths = {}, [source]
        while open_paths:
            path = open_paths.pop()
            if path in found:
                continue
            found[path], names = self._read(path)
            for name in names:
                for folder in [path.parent, *folders]:
                    if (folder / name).is_file():
                        open_paths.append(folder / name)
                        break
        return sorted((str(path), digest) for path, digest in found.items())


def include_folders(command):
    """The folders inside this tree that a compile command searches."""
    folders = re.findall(r"(?:-I|-isystem|-iquote) ?(\S+)", command)
    return [pathlib.Path(folder) for folder in folders if pathlib.Path(folder).is_relative_to(ROOT)]


def versions():
    """What names the tools: a new clang-tidy, or a new g++ whose headers it reads, checks anew."""
    return [subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
            for tool in ("clang-tidy", "g++")]


def check(source, build):
    """What clang-tidy has to say of `source`; empty when it is clean."""
    run = subprocess.run(["clang-tidy", *ARGUMENTS, "-p", build, source], capture_output=True,
                         text=True, cwd=ROOT, check=False)
    complaints = [line for line in run.stderr.splitlines() if not CHATTER.match(line)]
    if run.returncode == 0 and not complaints and not run.stdout.strip():
        return ""
    return "\n".join([run.stdout.rstrip(), *complaints, f"{source}: not clean"]).lstrip()


def commands_of(build):
    """{source, relative to the root: its compile commands, joined}"""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["directory"], entry["file"])
        if path.is_relative_to(ROOT):
            name = path.relative_to(ROOT).as_posix()
            commands[name] = commands.get(name, "") + entry["command"] + "\n"
    return commands


def key_of(source, command, common, headers):
    reached = headers.reach(ROOT / source, include_folders(command))
    return hashlib.sha256(json.dumps([common, command, reached]).encode()).hexdigest()


def forget_old():
    for path in CACHE.iterdir():
        if path.stat().st_mtime < time.time() - CACHE_DAYS * 86400:
            path.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-p", dest="build", default="build/release", help="build directory")
    parser.add_argument("-j", dest="jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    start = time.monotonic()
    sources = sys.stdin.read().split()
    if not sources:
        sys.exit("clang-tidy: no file named")
    commands = commands_of(ROOT / options.build)
    CACHE.mkdir(parents=True, exist_ok=True)
    forget_old()
    headers, common = Headers(), [*versions(), (ROOT / ".clang-tidy").read_text(), *ARGUMENTS]
    failed, due = 0, {}
    for source in sources:
        if source not in commands:
            print(f"{source}: no compile command in {options.build}")
            failed += 1
            continue
        key = key_of(source, commands[source], common, headers)
        if (CACHE / key).exists():
            (CACHE / key).touch()
        else:
            due[source] = key
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = {pool.submit(check, source, options.build): source for source in due}
        for run in concurrent.futures.as_completed(runs):
            source = runs[run]
            if run.result():
                print(run.result(), flush=True)
                failed += 1
            # Not remembered when somebody edited the file meanwhile.
            elif key_of(source, commands[source], common, Headers()) == due[source]:
                (CACHE / due[source]).touch()
    print(f"clang-tidy: {len(sources)} files, {len(due)} checked, {failed} not clean "
          f"({time.monotonic() - start:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
