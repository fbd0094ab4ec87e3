#!/usr/bin/env python3
"""Whether the peer computes the same model as we do: writes a small decoder of peer_decoder.py as a
checkpoint, runs model_bench on it, and compares the logits of every token. Needs PyTorch; a CPU
will do.

    check_peer.py MODEL_BENCH      status 0: they agree
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import torch

from peer_decoder import Decoder, EPSILON, WAYS, relative_rms

SIZES = {"hidden": 256, "intermediate": 384, "layers": 3, "vocab": 512, "heads": 8, "kv_heads": 2,
         "head_dim": 64}
POSITIONS, THETA = 128, 500000.0
TOLERANCE = 0.02  # both are bf16, and round in other places


def config():
    return {"architectures": ["LlamaForCausalLM"], "hidden_size": SIZES["hidden"],
            "intermediate_size": SIZES["intermediate"], "num_hidden_layers": SIZES["layers"],
            "num_attention_heads": SIZES["heads"], "num_key_value_heads": SIZES["kv_heads"],
            "head_dim": SIZES["head_dim"], "vocab_size": SIZES["vocab"], "rope_theta": THETA,
            "max_position_embeddings": POSITIONS, "rms_norm_eps": EPSILON}


def tensors(decoder):
    """By Hugging Face's names."""
    named = {"model.embed_tokens.weight": decoder.embedding, "lm_head.weight": decoder.head,
             "model.norm.weight": decoder.final_norm}
    q, kv = SIZES["heads"] * SIZES["head_dim"], SIZES["kv_heads"] * SIZES["head_dim"]
    for index, layer in enumerate(decoder.layers):
        parts = dict(zip("qkv", layer["qkv"].split([q, kv, kv])))
        gate, up = layer["gate_up"].chunk(2)
        in_layer = {f"self_attn.{name}_proj": part for name, part in parts.items()}
        in_layer |= {"self_attn.o_proj": layer["output"], "mlp.gate_proj": gate, "mlp.up_proj": up,
                     "mlp.down_proj": layer["down"], "input_layernorm": layer["attention_norm"],
                     "post_attention_layernorm": layer["mlp_norm"]}
        named |= {f"model.layers.{index}.{name}.weight": part for name, part in in_layer.items()}
    return named


def write_checkpoint(decoder, directory):
    (directory / "config.json").write_text(json.dumps(config()), encoding="utf-8")
    header, data = {}, b""
    for name, tensor in tensors(decoder).items():
        numbers = tensor.contiguous().view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def our_logits(model_bench, directory, tokens):
    """[tokens, vocab] f32"""
    file = directory / "logits"
    command = f"all_logits {file} {' '.join(map(str, tokens))}\n"
    done = subprocess.run([model_bench, directory, "--serve"], input=command, text=True,
                          capture_output=True, check=True)
    answer = json.loads(done.stdout.splitlines()[1])
    if "error" in answer:
        raise RuntimeError(answer["error"])
    numbers = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.float32)
    return numbers.view(len(tokens), -1)


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    torch.manual_seed(3)
    decoder = Decoder(SIZES, POSITIONS, device="cpu", theta=THETA)
    tokens = torch.randint(0, SIZES["vocab"], (60,))
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        write_checkpoint(decoder, directory)
        ours = our_logits(sys.argv[1], directory, tokens.tolist())
    naive = decoder.naive_logits(tokens)
    cache = decoder.new_cache(1, len(tokens))
    fast = decoder.forward(tokens[None], 0, cache, WAYS[0])[0]
    errors = {"ours against the peer's naive computation": relative_rms(ours, naive),
              "the peer's last token against ours": relative_rms(fast, ours[-1])}
    for name, error in errors.items():
        print(f"{name}: {error:.4f} (allowed {TOLERANCE})")
    return 0 if all(error < TOLERANCE for error in errors.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
