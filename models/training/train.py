#!/usr/bin/env python3
"""Trains a demo model from nothing and exports a Hugging Face directory.

    train.py --model demo --work WORK --out models/demo --steps 3000

WORK keeps the tokenizer and checkpoints; a run that was interrupted resumes from them. --minutes is a
deadline: the learning-rate schedule then follows whichever of steps and time is further along.
"""

import argparse
import json
import math
import pathlib
import time

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import data
from model import SHAPES, Llama, pruned

TEXT_SEED, HELDOUT_SEED, MODEL_SEED = 1, 900, 7
# (until this part of the run, row length): most documents are short, the last part trains all positions.
LENGTHS = ((0.45, 256), (0.85, 512), (1.0, 2048))


def learning_rate(progress, step, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def heldout_batches(tokenizer_path, eot, rows=64, length=512):
    docs = data.corpus(tokenizer_path, HELDOUT_SEED, 1, workers=1)
    ids, targets = data.Packer(docs, eot, HELDOUT_SEED).batch(rows, length)
    return [(torch.from_numpy(ids[i:i + 8]), torch.from_numpy(targets[i:i + 8])) for i in range(0, rows, 8)]


@torch.no_grad()
def heldout_loss(model, batches, dtype):
    total = tokens = 0
    for ids, targets in batches:
        n = int((targets != -100).sum())
        total += float(run(model, ids, targets, dtype)) * n
        tokens += n
    return total / tokens


def run(model, ids, targets, dtype):
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        return model(ids, targets, dtype)


def export(model, tokenizer_path, out):
    """Write the Hugging Face directory."""
    s = model.s
    out.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
              "eos_token_id": 0, "head_dim": s.head_dim, "hidden_act": "silu", "hidden_size": s.hidden_size,
              "initializer_range": 0.02, "intermediate_size": s.intermediate_size,
              "max_position_embeddings": s.max_position_embeddings, "mlp_bias": False, "model_type": "llama",
              "num_attention_heads": s.num_attention_heads, "num_hidden_layers": s.num_hidden_layers,
              "num_key_value_heads": s.num_key_value_heads, "pad_token_id": 0, "rms_norm_eps": s.rms_norm_eps,
              "rope_scaling": None, "rope_theta": s.rope_theta, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
              "use_cache": True, "vocab_size": s.vocab_size}
    generation = {"bos_token_id": 0, "eos_token_id": [0, 2], "pad_token_id": 0, "do_sample": True, "temperature": 0.8,
                  "top_p": 0.95}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    tensors = {"model." + k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    (out / "tokenizer.json").write_bytes(tokenizer_path.read_bytes())
    data.write_tokenizer_files(out)


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", choices=sorted(SHAPES), default="demo")
    p.add_argument("--work", type=pathlib.Path, required=True)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--init-from", type=pathlib.Path, help="checkpoint of the demo model, to start a companion from")
    p.add_argument("--steps", type=int, default=3000)
    p.add_argument("--minutes", type=float, default=1e9)
    p.add_argument("--tokens-per-step", type=int, default=4096)
    p.add_argument("--chunks", type=int, default=25, help=f"training text in chunks of {data.CHUNK} documents")
    p.add_argument("--peak-lr", type=float, default=2.5e-3)
    p.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="needs a C++ compiler")
    p.add_argument("--export-only", action="store_true", help="export the last checkpoint")
    return p.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(MODEL_SEED)
    dtype = getattr(torch, args.dtype)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer_path, checkpoint = args.work / "tokenizer.json", args.work / f"{args.model}.pt"
    shape = SHAPES[args.model]
    if not tokenizer_path.exists():
        data.train_tokenizer(tokenizer_path, TEXT_SEED, shape.vocab_size)
    model = Llama(shape)
    if args.init_from:
        big = Llama(SHAPES["demo"])
        big.load_state_dict(torch.load(args.init_from)["model"])
        model = pruned(big, shape)
    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
                                  lr=args.peak_lr, betas=(0.9, 0.95), fused=True)
    step, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        print(f"resumed at step {step}", flush=True)
    if args.export_only:
        return export(model, tokenizer_path, args.out)

    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    docs = data.corpus(tokenizer_path, TEXT_SEED, args.chunks)
    eot = Tokenizer.from_file(str(tokenizer_path)).token_to_id(data.EOT)
    print(f"{len(docs)} documents, {sum(map(len, docs))} tokens", flush=True)
    heldout = heldout_batches(tokenizer_path, eot)
    # A resumed run goes on with a new shuffle.
    packer = data.Packer(docs, eot, MODEL_SEED + step)
    trained = torch.compile(model, dynamic=False) if args.compile else model
    log = (args.work / f"{args.model}.log").open("a")

    def save():
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").rename(checkpoint)

    while (progress := max(step / args.steps, seconds / 60 / args.minutes)) < 1:
        began = time.monotonic()
        length = next(n for until, n in LENGTHS if progress < until)
        ids, targets = map(torch.from_numpy, packer.batch(args.tokens_per_step // length, length))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, step, args.peak_lr, warmup=60)
        loss = run(trained, ids, targets, dtype)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        seconds += time.monotonic() - began
        if step % 20 == 0 or step == 1:
            heard = heldout_loss(model, heldout, dtype) if step % 200 == 0 else float("nan")
            line = (f"step {step} progress {progress:.3f} loss {loss.item():.4f} heldout {heard:.4f} length {length} "
                    f"{step * args.tokens_per_step / seconds:.0f} tokens/s {seconds / 60:.1f} min")
            print(line, flush=True)
            print(line, file=log, flush=True)
        if step % 100 == 0:
            save()
    save()
    print(f"done: {step} steps, {seconds / 60:.1f} min, heldout loss {heldout_loss(model, heldout, dtype):.4f}")
    export(model, tokenizer_path, args.out)


if __name__ == "__main__":
    main()
