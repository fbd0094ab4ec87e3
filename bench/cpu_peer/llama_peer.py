"""Keeps a GGUF model loaded in llama.cpp and answers commands of standard input, a JSON line each:

    python llama_peer.py FILE.gguf --threads N [--kv q8_0]

As `model_bench --serve`, with a setting of llama.cpp behind a shape:
    run SEQUENCES CONTEXT TOKENS REPEATS FLASH UBATCH UNIFIED
    logits FILE TOKEN...
    all_logits FILE TOKEN...
FLASH: flash attention, 0 or 1. UBATCH: tokens computed at once. UNIFIED: one KV buffer for all
sequences, 0 or 1.

What is timed is llama_decode and llama_synchronize alone, on a batch made before. Called through
ctypes: a call costs what the first line says as call_us.
"""

import argparse
import ctypes
import json
import pathlib
import sys
import time

import llama_cpp
import numpy as np

MAX_SEQUENCES = 32


def check(what, failed):
    if failed:
        raise RuntimeError(f"{what} failed: {failed}")


KV_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}


class Context:
    """One llama_context. `tokens`: the most that a sequence holds."""

    def __init__(self, model, threads, kv, tokens, sequences, flash, ubatch, unified):
        params = llama_cpp.llama_context_default_params()
        params.type_k = params.type_v = KV_TYPES[kv]
        per_sequence = (tokens + 255) // 256 * 256
        params.n_ctx = per_sequence * sequences
        params.n_batch = max(2048, tokens)
        params.n_ubatch = ubatch
        params.n_seq_max = sequences
        params.n_threads = threads
        params.n_threads_batch = threads
        params.flash_attn_type = (llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash
                                  else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        params.kv_unified = unified
        params.offload_kqv = False
        params.no_perf = True
        self.context = llama_cpp.llama_init_from_model(model, params)
        check("llama_init_from_model", not self.context)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def close(self):
        llama_cpp.llama_free(self.context)

    def make_batch(self, tokens, start, sequences, all_logits=False):
        """`tokens` at positions start, start + 1... of each sequence; logits of all or the last."""
        batch = llama_cpp.llama_batch_init(len(tokens) * sequences, 0, 1)
        for sequence in range(sequences):
            for i, token in enumerate(tokens):
                row = sequence * len(tokens) + i
                batch.token[row] = token
                batch.pos[row] = start + i
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = sequence
                batch.logits[row] = all_logits or i + 1 == len(tokens)
        batch.n_tokens = len(tokens) * sequences
        return batch

    def decode(self, batch):
        """(wall-clock seconds, CPU seconds of all threads)"""
        start, cpu_start = time.perf_counter(), time.process_time()
        failed = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_synchronize(self.context)
        cpu_seconds, seconds = time.process_time() - cpu_start, time.perf_counter() - start
        check("llama_decode", failed)
        return seconds, cpu_seconds

    def make_tokens(self, count):
        return [i * 7919 % self.vocab_size for i in range(count)]

    def run(self, sequences, context, tokens, repeats):
        llama_cpp.llama_memory_clear(self.memory, True)
        if context:
            fill = self.make_batch(self.make_tokens(context), 0, 1)
            self.decode(fill)
            llama_cpp.llama_batch_free(fill)
            for sequence in range(1, sequences):
                llama_cpp.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
        batch = self.make_batch(self.make_tokens(tokens), context, sequences)
        times = []
        for _ in range(repeats):
            times.append(self.decode(batch))
            for sequence in range(sequences):
                llama_cpp.llama_memory_seq_rm(self.memory, sequence, context, -1)
        llama_cpp.llama_batch_free(batch)
        seconds, cpu_seconds = zip(*times)
        return {"seconds": seconds, "cpu_seconds": cpu_seconds}

    def logits(self, tokens, all_logits):
        """[rows, vocab_size]"""
        llama_cpp.llama_memory_clear(self.memory, True)
        batch = self.make_batch(tokens, 0, 1, all_logits)
        self.decode(batch)
        llama_cpp.llama_batch_free(batch)
        rows = len(tokens) if all_logits else 1
        values = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(values, (rows, self.vocab_size)).astype(np.float32)


class Server:
    def __init__(self, path, threads, kv):
        self.threads = threads
        self.kv = kv
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        check(f"loading {path}", not self.model)
        self.setting, self.context = None, None

    def use(self, *setting):
        """The context of this setting, kept until another one is asked for."""
        if setting != self.setting:
            if self.context:
                self.context.close()
            self.setting, self.context = None, None
            self.context = Context(self.model, self.threads, self.kv, *setting)
            self.setting = setting
        return self.context

    def answer(self, line):
        command, *words = line.split()
        if command == "run":
            sequences, context, tokens, repeats, flash, ubatch, unified = map(int, words)
            held = self.use(context + tokens, sequences, flash, ubatch, unified)
            return held.run(sequences, context, tokens, repeats)
        if command in ("logits", "all_logits"):
            file, tokens = words[0], [int(word) for word in words[1:]]
            held = self.use(len(tokens), 1, 1, 512, 0)
            rows = held.logits(tokens, command == "all_logits")
            rows.tofile(file)
            return {"rows": len(rows)}
        raise ValueError(f"unknown command {command}; allowed: run, logits, all_logits")

    def call_us(self):
        """What one call through ctypes takes."""
        calls = 10000
        start = time.perf_counter()
        for _ in range(calls):
            llama_cpp.llama_model_n_layer(self.model)
        return (time.perf_counter() - start) / calls * 1e6


@llama_cpp.llama_log_callback
def log_warnings(level, text, _):
    if level in (3, 4):  # GGML_LOG_LEVEL_WARN, _ERROR
        sys.stderr.write(text.decode(errors="replace"))


def log_only_warnings():
    llama_cpp.llama_log_set(log_warnings, ctypes.c_void_p(0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kv", choices=KV_TYPES, default="f16")
    options = parser.parse_args()
    log_only_warnings()
    llama_cpp.llama_backend_init()
    server = Server(options.model, options.threads, options.kv)
    system = llama_cpp.llama_print_system_info().decode()
    print(json.dumps({"version": llama_cpp.__version__, "system": system,
                      "call_us": server.call_us()}), flush=True)
    for line in sys.stdin:
        try:
            answer = server.answer(line)
        except (RuntimeError, ValueError, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
