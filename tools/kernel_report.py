#!/usr/bin/env python3
"""What the machine code of CUDA kernels says of their speed: for sm_90a, or --arch.

    tools/kernel_report.py [--nvdisasm PATH] engine/kernels/cuda/decode_attention.cu ...

Of each kernel: instructions, registers of a thread, bytes of its stack (where registers are spilled), and
the bytes of global memory that it has asked for and not yet waited for, at most. Of each loop that reads
global memory and has none within it: instructions, loads, that same number of bytes, and how many
latencies of memory follow one another, as a load is asked for after another one was waited for. Copies
to shared memory that do not wait (cp.async) are counted apart. Every path of a loop is counted as if
it were taken.

Needs nvcc, and nvdisasm of the CUDA toolkit: where that is not installed, PyPI's triton has one
(triton/backends/nvidia/bin).
"""

import argparse
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BARRIERS = 6  # scoreboards of a warp
BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(.*?);\s*/\* 0x[0-9a-f]{16} \*/")
CONTROL = re.compile(r"\s*/\* 0x([0-9a-f]{16}) \*/")


@dataclasses.dataclass
class Instruction:
    name: str  # with its modifiers, without its predicate
    target: str  # of a branch
    sets: int  # the scoreboard that what it loads clears, or BARRIERS and above
    waits: int  # for these, a bit each

    @property
    def copies(self):
        return self.name.startswith("LDGSTS")

    @property
    def loads(self):
        return re.match(r"LDG?(\.|$)", self.name) is not None

    @property
    def bytes(self):
        return next((BYTES[part] for part in self.name.split(".") if part in BYTES), 4)


def parse(text):
    """Name -> its instructions, and where its labels stand among them."""
    kernels = {}
    instructions, labels, code = None, None, None
    for line in text.splitlines():
        if name := re.match(r"(_Z\S+):$", line):
            instructions, labels = kernels.setdefault(name[1], ([], {}))
        elif instructions is None:
            continue
        elif label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif found := INSTRUCTION.match(line):
            code = re.sub(r"^@!?U?P\w+\s+", "", found[1])
        elif code and (found := CONTROL.match(line)):
            bits = int(found[1], 16)  # the upper half; its bits 46 and on are scheduling
            target = re.search(r"`\((\.L_x_\d+)\)", code)
            instructions.append(Instruction(code.split()[0], target[1] if target else "",
                                            bits >> 46 & 7, bits >> 52 & 63))
            code = None
    return kernels


def walk(instructions, rounds=1):
    """The most bytes under way, and the latencies that follow one another in the last round."""
    pending = [0] * BARRIERS
    asked = [0] * BARRIERS  # the latency that the newest of them belongs to
    most = latency = before = 0
    for _ in range(rounds):
        before = latency
        for instruction in instructions:
            awaited = [b for b in range(BARRIERS) if instruction.waits >> b & 1 and pending[b]]
            latency += any(asked[b] == latency for b in awaited)
            for b in awaited:
                pending[b] = 0
            if instruction.loads and instruction.sets < BARRIERS:
                pending[instruction.sets] += instruction.bytes
                asked[instruction.sets] = latency
            most = max(most, sum(pending))
    return most, latency - before


def inner_loops(instructions, labels):
    spans = [(labels[i.target], at + 1) for at, i in enumerate(instructions)
             if i.name == "BRA" and labels.get(i.target, at + 1) <= at]
    reads = [span for span in spans if any(i.loads or i.copies for i in instructions[slice(*span)])]
    return [a for a in reads
            if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in reads)]


def run(*command):
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr.strip()}")
    return done.stdout + done.stderr


def resources(text):
    """Name -> registers and stack bytes, of what ptxas -v says."""
    found = {}
    for name, said in re.findall(r"Function properties for (_Z\S+)\n(.*?registers)", text, re.S):
        found[name] = (int(re.search(r"Used (\d+) registers", said)[1]),
                       int(re.search(r"(\d+) bytes stack frame", said)[1]))
    return found


def readable(name):
    name = run("c++filt", name).strip().replace("(anonymous namespace)::", "")
    name = re.sub(r"^void |\(int\)|\(bool\)|\(baton::\w+\)|baton::", "", name)  # and casts of its arguments
    return name.partition("(")[0]


def report(source, arch, nvdisasm):
    print(source)
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder) / "kernels.cubin"
        said = run("nvcc", "-std=c++20", "-O3", "-DNDEBUG", f"-arch={arch}",
                   "--expt-relaxed-constexpr", "-I.", "-Xptxas", "-v", "-cubin", "-o", cubin, source)
        kernels = parse(run(nvdisasm, "-c", "-hex", cubin))
    used = resources(said)
    for name, (instructions, labels) in sorted(kernels.items(), key=lambda item: readable(item[0])):
        registers, stack = used.get(name, (0, 0))
        print(f"  {readable(name)}: {len(instructions)} instructions, {registers} registers, "
              f"{stack} bytes of stack, {walk(instructions)[0]} bytes under way")
        for begin, end in inner_loops(instructions, labels):
            loop = instructions[begin:end]
            loads, copies = sum(i.loads for i in loop), sum(i.copies for i in loop)
            most, latencies = walk(loop, rounds=3)
            print(f"    a loop of {end - begin}: {loads} loads, {most} bytes under way, "
                  f"{latencies} latencies" + (f"; {copies} cp.async" if copies else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sm_90a")
    parser.add_argument("--nvdisasm", default="nvdisasm")
    parser.add_argument("sources", nargs="+", metavar="FILE.cu")
    args = parser.parse_args()
    for tool in ("nvcc", args.nvdisasm):
        if shutil.which(tool) is None:
            parser.error(f"no {tool}: see --help")
    for source in args.sources:
        path = pathlib.Path(source).resolve()
        if not path.is_file():
            parser.error(f"no such file: {source}")
        report(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path, args.arch,
               args.nvdisasm)


if __name__ == "__main__":
    main()
