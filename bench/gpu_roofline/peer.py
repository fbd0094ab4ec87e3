#!/usr/bin/env python3
"""PyTorch at the shapes of gpu_roofline: whole steps, attention alone by each of its kernels, and
products alone. gpu_roofline.sh runs it twice among ours, in processes of its own.

    peer.py --sizes FILE --out FILE [--cpu]

`--sizes`: of `gpu_roofline sizes`. `--out`: a part as bench/gpu_roofline/row_json.h has it, written
again after each row. `--cpu` is for trying it out: its times mean nothing. Status: 0; 1: it could
not go on; 3: there is no PyTorch; 4: no GPU.
"""

import argparse
import gc
import json
import math
import statistics
import sys
import time

try:
    import torch
except ImportError:
    print("no PyTorch: peer not run")
    sys.exit(3)

from peer_decoder import Decoder, WAYS, attend, check, way_name

MOST_SETS = 512
MOST_LAUNCHES = 512
TOLERANCE = 0.05  # of bf16 logits against f32 ones, relative, root of the mean square


class Timer:
    """Times of launches, as bench/gpu_roofline/timing.h takes ours."""

    def __init__(self, sizes, on_cpu):
        self.repeats, self.sample_ms = sizes["repeats"], sizes["sample_ms"]
        self.flushed_bytes, self.on_cpu = sizes["flushed_bytes"], on_cpu

    def sets_for(self, tensor_bytes):
        return min(MOST_SETS, max(1, math.ceil(self.flushed_bytes / max(tensor_bytes, 1))))

    def once(self, run):
        """ms of one call."""
        if self.on_cpu:
            begin = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - begin)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def calls(self, run, repeats):
        """Each call's ms, after three that warm up."""
        for _ in range(3):
            run()
        return [self.once(run) for _ in range(repeats)]

    def graph(self, run):
        """`run` as a graph; itself on a CPU."""
        if self.on_cpu:
            return run
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def launches(self, launch, sets):
        """ms of one launch; launch(set) starts one. See TimeLaunches."""
        def all_sets():
            for at in range(sets):
                launch(at)

        all_sets()
        rounds = math.ceil(self.sample_ms / max(self.once(all_sets), 1e-6))
        count = sets * min(max(rounds, 1), max(1, MOST_LAUNCHES // sets))

        def sample():
            for i in range(count):
                launch(i % sets)

        return [ms / count for ms in self.calls(self.graph(sample), self.repeats)]


class Peer:
    def __init__(self, sizes, out, on_cpu):
        self.sizes, self.out = sizes, out
        self.device = "cpu" if on_cpu else "cuda"
        self.timer = Timer(sizes, on_cpu)
        name = "a CPU" if on_cpu else torch.cuda.get_device_name()
        versions = [f"PyTorch {torch.__version__}", f"CUDA {torch.version.cuda}"]
        if not on_cpu:
            versions.append(f"cuDNN {torch.backends.cudnn.version()}")
        self.part = {"part": "peer", "device": name, "note": ", ".join(versions),
                     "emulated": on_cpu, "error": "it ended early", "rows": []}
        self.ways = {}  # (kind, whether heads share keys): list
        self.write()

    def write(self):
        with open(self.out, "w", encoding="utf-8") as file:
            json.dump(self.part, file, indent=1)

    def add(self, name, variant, measure):
        """measure() returns samples; what it raises is the row's error. Returns the median, or
        infinity."""
        row = {"name": name, "variant": variant, "samples_ms": [], "error": ""}
        try:
            row["samples_ms"] = measure()
            shown = f"{statistics.median(row['samples_ms']):.4f} ms"
        except (RuntimeError, TypeError, ValueError) as error:
            row["error"] = shown = str(error).strip().split("\n")[0][:200]
        print(f"{name:50} {variant:18} {shown}", flush=True)
        self.part["rows"].append(row)
        self.write()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        return statistics.median(row["samples_ms"] or [math.inf])

    def random(self, *shape):
        return torch.empty(shape, device=self.device, dtype=torch.bfloat16).uniform_(-1, 1)

    def find_ways(self):
        """Those that exist here, and compute what they should: for prompts and for steps of one
        token, where heads share keys and where they do not."""
        for kind in ("prompt", "step"):
            for kv_heads in (2, 8):
                found = self.ways.setdefault((kind, kv_heads < 8), [])
                for way in WAYS:
                    what = f"{kind}, {kv_heads} KV heads of 8, by {way_name(way)}"
                    try:
                        error = check(way, kind, kv_heads, self.device)
                    except (RuntimeError, TypeError) as reason:
                        print(f"{what}: {str(reason).splitlines()[0][:100]}")
                        continue
                    print(f"{what}: {error:.4f} from the naive computation")
                    if not error < TOLERANCE:
                        raise RuntimeError(f"{what}: wrong by {error}")
                    found.append(way)

    def ways_of(self, shape):
        kind = "prompt" if shape["tokens"] > 1 else "step"
        return self.ways[kind, shape["heads"] != shape["kv_heads"]]

    def time_attention(self, shape, way):
        tokens, positions = shape["tokens"], shape["context"] + shape["tokens"]
        kv_shape = (shape["sequences"], shape["kv_heads"], positions, shape["head_dim"])
        sets = self.timer.sets_for(4 * math.prod(kv_shape))
        queries = self.random(sets, shape["sequences"], shape["heads"], tokens, shape["head_dim"])
        keys, values = self.random(sets, *kv_shape), self.random(sets, *kv_shape)
        return self.timer.launches(lambda at: attend(way, queries[at], keys[at], values[at]), sets)

    def measure_attention(self):
        for shape in self.sizes["attention"]:
            for way in self.ways_of(shape):
                self.add(shape["name"], way_name(way),
                         lambda shape=shape, way=way: self.time_attention(shape, way))

    def time_product(self, shape):
        m, n, k = shape["m"], shape["n"], shape["k"]
        sets = self.timer.sets_for(2 * n * k)
        weights = [self.random(n, k).t() for _ in range(sets)]
        factor, output = self.random(m, k), self.random(m, n)
        return self.timer.launches(lambda at: torch.mm(factor, weights[at], out=output), sets)

    def measure_products(self):
        for shape in self.sizes["products"]:
            self.add(shape["name"], "mm", lambda shape=shape: self.time_product(shape))

    def time_step(self, decoder, step, way):
        tokens = torch.randint(0, decoder.vocab, (step["sequences"], step["tokens"]),
                               device=self.device)
        cache = decoder.new_cache(step["sequences"], step["context"] + step["tokens"])

        def run():
            return decoder.forward(tokens, step["context"], cache, way)

        if step["tokens"] == 1:
            return self.timer.calls(self.timer.graph(run), self.timer.repeats)
        return self.timer.calls(run, min(self.timer.repeats, 7))

    def measure_steps(self):
        """By the two ways whose attention is fastest at the step's shape."""
        decoder_sizes = self.sizes["decoder"]
        positions = max(s["context"] + s["tokens"] for s in self.sizes["steps"])
        decoder = Decoder(decoder_sizes, positions, device=self.device)
        for step in self.sizes["steps"]:
            shape = {**step, **{k: decoder_sizes[k] for k in ("heads", "kv_heads", "head_dim")}}
            times = {}
            for way in self.ways_of(shape):
                try:
                    times[way] = statistics.median(self.time_attention(shape, way))
                except (RuntimeError, TypeError, ValueError):
                    pass  # not at this shape
            for way in sorted(times, key=times.get)[:2]:
                self.add(step["name"], way_name(way),
                         lambda step=step, way=way: self.time_step(decoder, step, way))

    def warm_up(self):
        """As the program does: clocks of a device that was idle take a while to rise."""
        if self.timer.on_cpu:
            return
        end = time.monotonic() + self.sizes["warm_up_ms"] / 1e3
        copied, copy = (torch.zeros(64 << 20, dtype=torch.uint8, device=self.device)
                        for _ in range(2))
        while time.monotonic() < end:
            for _ in range(32):
                copy.copy_(copied)
            torch.cuda.synchronize()

    @torch.inference_mode()
    def run(self):
        self.warm_up()
        self.find_ways()
        self.measure_steps()
        gc.collect()
        self.measure_products()
        self.measure_attention()  # last, as each shape is measured in several ways
        self.part["error"] = ""
        self.write()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    if not arguments.cpu and not torch.cuda.is_available():
        print("no GPU: peer not run")
        return 4
    with open(arguments.sizes, encoding="utf-8") as file:
        sizes = json.load(file)
    peer = Peer(sizes, arguments.out, arguments.cpu)
    torch.manual_seed(1)
    try:
        peer.run()
    except (RuntimeError, TypeError) as error:
        peer.part["error"] = str(error).strip().split("\n")[0]
        peer.write()
        print(f"peer: {peer.part['error']}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
