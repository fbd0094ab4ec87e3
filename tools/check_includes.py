#!/usr/bin/env python3
"""Checks that every #include of a Baton header is allowed by the including folder's target.

The allowed list is the target's DEPS in its CMakeLists.txt (transitively; baton_proto may also be
private), as docs/architecture.md describes. Also refuses heavy third-party headers in headers that
another target includes, and link cycles.

Exit status 1 and one line a finding; silent when all is well.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP = ["common", "proto", "engine", "kvtransfer", "worker", "prefill_worker", "decode_worker",
       "router", "sim"]
# Level 3 may include anything; nothing includes it.
FREE = ["cli", "bench", "tests"]
HEAVY = re.compile(r'#include [<"](grpcpp/|grpc/|boost/|nlohmann/json\.hpp|spdlog/|prometheus/|ucp/|'
                   r'yaml-cpp/|pcre2|CLI/|google/protobuf/|proto/.*\.pb\.h)')


def parse_targets():
    """{target: (folder, {deps})} of every baton_library, and {source: target}."""
    targets, owner = {}, {}
    for lists in sorted(ROOT.glob("*/**/CMakeLists.txt")):
        folder = lists.parent.relative_to(ROOT)
        if folder.parts[0] not in TOP:
            continue
        text = re.sub(r"#.*", "", lists.read_text())
        for call in re.finditer(r"baton_library\(([^)]*)\)", text):
            words = call.group(1).split()
            section, deps, sources = None, set(), []
            for word in words[1:]:
                if word in ("SOURCES", "DEPS", "LIBS", "PRIVATE_LIBS"):
                    section = word
                elif section == "DEPS" or (section == "PRIVATE_LIBS" and word == "baton_proto"):
                    deps.add(word)
                elif section == "SOURCES":
                    sources.append(word)
            targets[words[0]] = (folder, deps)
            for source in sources:
                owner[(folder / source).as_posix()] = words[0]
    targets.setdefault("baton_proto", (pathlib.Path("proto"), set()))
    return targets, owner


def closure(target, targets, path=()):
    if target in path:
        raise SystemExit(f"link cycle: {' -> '.join(path + (target,))}")
    reached = {target}
    for dep in targets.get(target, (None, set()))[1]:
        reached |= closure(dep, targets, path + (target,))
    return reached


def owners_of(path, targets, owner):
    """The targets that a header or source may belong to: named sources, else its folder's."""
    if path in owner:
        return {owner[path]}
    stem = path.rsplit(".", 1)[0]
    if stem + ".cc" in owner:
        return {owner[stem + ".cc"]}
    folder = pathlib.PurePosixPath(path).parent
    while folder.parts:
        here = {name for name, (where, _) in targets.items() if where.as_posix() == str(folder)}
        if here:
            return here
        folder = folder.parent
    return set()


def main():
    targets, owner = parse_targets()
    reach = {name: closure(name, targets) for name in targets}
    findings, heavy, used_by = [], {}, {}
    files = [p for top in TOP for ext in ("*.h", "*.cc", "*.cu", "*.cuh")
             for p in (ROOT / top).rglob(ext)]
    for file in sorted(files):
        path = file.relative_to(ROOT).as_posix()
        mine = owners_of(path, targets, owner)
        if not mine:
            findings.append(f"{path}: belongs to no target")
            continue
        allowed = set().union(*(reach[name] for name in mine))
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if path.endswith(".h") and HEAVY.match(line):
                heavy.setdefault(path, (number, line.strip()))
            match = re.match(r'#include "([^"]+)"', line)
            if not match:
                continue
            top = match.group(1).split("/")[0]
            if top in FREE:
                findings.append(f"{path}:{number}: nothing may include {top}/")
            if top not in TOP:
                continue
            theirs = owners_of(match.group(1), targets, owner)
            if match.group(1).endswith(".pb.h"):
                theirs = {"baton_proto"}
            used_by.setdefault(match.group(1), set()).update(mine)
            if not theirs & allowed:
                findings.append(f"{path}:{number}: {match.group(1)} is in {sorted(theirs)}, which "
                                f"{sorted(mine)} does not list in DEPS")
    for path, (number, line) in sorted(heavy.items()):
        others = used_by.get(path, set()) - owners_of(path, targets, owner)
        if others:
            findings.append(f"{path}:{number}: {line} reaches {sorted(others)}")
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
