"""Measures what int8 and int4 weights and an int8 KV cache cost in quality; how is told in
quality_options.py."""

import dataclasses
import pathlib
import sys

import numpy as np

import heldout
import models
from compare import CONFIGS, HERE, MOST_LOGIT_ERROR, PEER_WEIGHTS, Peer
from quality_options import LONGEST_PROMPT, parse_options

ROOT = HERE.parents[1]
ENGINES = ("Baton", "llama.cpp")
# What is rounded: the weights of each engine, and the KV cache: None where the engine's own is kept.
KINDS = {"bf16": ("bf16", None, None), "int8": ("int8", None, None), "int4": ("int4", None, None),
         "int8 KV": ("bf16", "int8", "q8_0")}
SEED = 7


@dataclasses.dataclass
class Subject:
    """A model and what it reads."""
    name: str
    directory: pathlib.Path  # holds hf and the GGUF files
    tokens: np.ndarray  # [prompts, length + 1], the last one only to be predicted
    counts: np.ndarray | None = None  # as `tokens`: which count in the loss; None: there is no loss


@dataclasses.dataclass
class Measured:
    """One engine with one of KINDS, over all positions."""
    loss: float
    kl: np.ndarray  # [prompts], each the mean of its positions


def random_tokens(config, positions):
    window = config.get("sliding_window") or LONGEST_PROMPT
    length = min(LONGEST_PROMPT, window, config["max_position_embeddings"])
    return np.random.default_rng(SEED).integers(
        config["vocab_size"], size=(positions // length, length + 1))


def demo_subject(options):
    directory = options.work / "model-demo"
    models.convert_model(ROOT / "models/demo", directory)
    rows = 16 * options.positions // LONGEST_PROMPT
    return Subject("demo", directory, *heldout.demo_rows(ROOT / "models/demo/tokenizer.json", rows,
                                                         LONGEST_PROMPT))


def golden_subject(options, source, config):
    directory = options.work / f"model-{source.name}"
    models.convert_model(source, directory)
    return Subject(source.name, directory, random_tokens(config, options.positions))


def big_subject(options):
    directory = options.work / "model-b"
    config = models.make_model(ROOT / "bench/configs" / CONFIGS["b"], directory)
    return Subject("b", directory, random_tokens(config, options.positions // 4))


def make_subjects(options):
    """The models wanted; prints which are left out, and why."""
    makers = {"demo": (demo_subject, options)}
    for path in sorted((ROOT / "tests/golden/model").glob("*/config.json")):
        source = path.parent
        config = models.read_config(source)
        if reason := models.why_not_convertible(config):
            print(f"{source.name}: left out, {reason}")
        else:
            makers[source.name] = (golden_subject, options, source, config)
    makers["b"] = (big_subject, options)
    wanted = options.models.split(",") if options.models else list(makers)
    if unknown := set(wanted) - set(makers):
        raise RuntimeError(f"no models {', '.join(unknown)}; there are {', '.join(makers)}")
    return [make(*arguments) for make, *arguments in (makers[name] for name in wanted)]


def start(options, subject, engine, kind):
    weights, our_kv, their_kv = KINDS[kind]
    if engine == "Baton":
        command = [options.build / "bench/model_bench", subject.directory / "hf", "--serve",
                   "--threads", options.threads]
        command += [] if weights == "bf16" else ["--weights", weights]
        command += [] if our_kv is None else ["--kv-dtype", our_kv]
    else:
        gguf_file = models.quantized_gguf(subject.directory, PEER_WEIGHTS[weights], options.threads)
        command = [sys.executable, HERE / "llama_peer.py", gguf_file, "--threads", options.threads]
        command += [] if their_kv is None else ["--kv", their_kv]
    return Peer(engine, command, options.work / f"quality-{engine}.log")


def ask_logits(options, peer, prompt):
    """[positions, vocab] f32"""
    file = options.work / "quality.f32"
    rows = peer.ask(f"all_logits {file} {' '.join(map(str, prompt))}")["rows"]
    return np.fromfile(file, dtype=np.float32).reshape(rows, -1)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted, dtype=np.float64).sum(axis=1, keepdims=True))


def check_same_model(subject, ours, theirs):
    """RMS difference of the logits over their standard deviation"""
    error = float(np.sqrt(np.mean((ours - theirs) ** 2)) / theirs.std())
    if not error < MOST_LOGIT_ERROR:
        raise RuntimeError(f"{subject.name}: the engines' bf16 logits differ: RMS {error:.4f} of the "
                           f"standard deviation, at most {MOST_LOGIT_ERROR} allowed")
    return error


def measure(options, subject):
    """{(engine, kind): Measured}, one prompt after another"""
    keys = [(engine, kind) for engine in ENGINES for kind in KINDS]
    peers = {}
    losses, kls, errors = {key: [] for key in keys}, {key: [] for key in keys}, []
    try:
        for key in keys:
            peers[key] = start(options, subject, *key)
        for i, row in enumerate(subject.tokens):
            logits = {key: ask_logits(options, peers[key], row[:-1]) for key in keys}
            errors.append(check_same_model(subject, *(logits[engine, "bf16"] for engine in ENGINES)))
            chances = {key: log_softmax(logits[key]) for key in keys}
            for key in keys:
                exact = chances[key[0], "bf16"]
                kls[key].append(np.mean(np.sum(np.exp(exact) * (exact - chances[key]), axis=1)))
                if subject.counts is not None:
                    picked = -np.take_along_axis(chances[key], row[1:, None], axis=1)[:, 0]
                    losses[key].append(picked[subject.counts[i, 1:]])
    finally:
        for peer in peers.values():
            peer.close()
    print(f"{subject.name}: bf16 logits of the two engines differ by RMS {max(errors):.4f} of their "
          f"standard deviation, in the worst of {len(errors)} prompts", flush=True)
    return {key: Measured(float(np.mean(np.concatenate(losses[key]))) if losses[key] else None,
                          np.array(kls[key])) for key in keys}


def ratio_of(measured, kind):
    """(ratio of KL, its standard error by leaving out one prompt at a time)"""
    ours, theirs = measured["Baton", kind].kl, measured["llama.cpp", kind].kl
    ratio = ours.sum() / theirs.sum()
    without = (ours.sum() - ours) / (theirs.sum() - theirs)
    error = np.sqrt((len(ours) - 1) * np.mean((without - without.mean()) ** 2))
    return float(ratio), float(error)


def print_table(subject, measured):
    """{kind: ratio}"""
    prompts, length = subject.tokens.shape[0], subject.tokens.shape[1] - 1
    counted = "" if subject.counts is None else f", {subject.counts[:, 1:].sum()} in the loss"
    print(f"\n{subject.name}: {prompts} prompts of {length} tokens{counted}")
    print(f"  {'':8}{'loss':>19}{'KL':>23}")
    print(f"  {'':8}{'Baton':>9} {'llama.cpp':>9} {'Baton':>11} {'llama.cpp':>11}   ratio")
    ratios = {}
    for kind, (weights, _, their_kv) in KINDS.items():
        pair = [measured[engine, kind] for engine in ENGINES]
        losses = [f"{one.loss:9.4f}" if one.loss is not None else f"{'-':>9}" for one in pair]
        text = f"  {kind:8}{' '.join(losses)}"
        if kind != "bf16":
            ratios[kind], error = ratio_of(measured, kind)
            theirs = their_kv or PEER_WEIGHTS[weights]
            text += " ".join([""] + [f"{one.kl.mean():11.3e}" for one in pair])
            text += f"   {ratios[kind]:.3f} ± {error:.3f} of {theirs.upper()}"
        print(text, flush=True)
    return ratios


def main():
    options = parse_options()
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        ratios = [print_table(subject, measure(options, subject))
                  for subject in make_subjects(options)]
    except (RuntimeError, OSError) as error:
        sys.exit(f"cpu_quality: {error}")
    worst = {kind: max(ratio[kind] for ratio in ratios) for kind in KINDS if kind != "bf16"}
    print("\ncpu_quality " + " ".join(f"{kind.replace(' ', '_')}={ratio:.3f}"
                                      for kind, ratio in worst.items()))


if __name__ == "__main__":
    main()
