#!/usr/bin/env python3
"""Makes the golden files of this folder: tiny random-weight models and what transformers computes.

    python tests/golden/model/make_goldens.py

Pinned: torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6 (CPU, one thread).

Each folder holds a Hugging Face model (config.json and safetensors) and
  tokens.i32    [positions] prompt, then the greedy continuation of the f32 run
  logits.f32    [positions, vocab] of the f32 run over all tokens at once, eager attention
  logits.bf16   [positions, vocab] of the bf16 run: how far bf16 rounding moves the logits
  golden.json   prompt and continuation lengths, largest differences between the two runs
"""

import json
import pathlib
import shutil

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

HERE = pathlib.Path(__file__).parent
PINNED = {"torch": "2.15.0", "transformers": "5.23.0"}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def sizes(hidden, inner, layers, heads, kv_heads, head_dim, vocab):
    return dict(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        max_position_embeddings=256,
    )


# name: (config, stored dtype, prompt length, shards, write the field layout of transformers 4)
MODELS = {
    "llama_gqa1_tied": (
        LlamaConfig(**sizes(48, 88, 3, 3, 3, 16, 211), tie_word_embeddings=True, eos_token_id=[7, 9]),
        torch.bfloat16, 40, 1, False),
    "llama_gqa3_rope3": (
        LlamaConfig(**sizes(96, 120, 2, 6, 2, 32, 203), rope_parameters=LLAMA3_ROPE),
        torch.bfloat16, 60, 1, True),
    "llama_bias_f16": (
        LlamaConfig(**sizes(40, 72, 2, 5, 5, 8, 200), attention_bias=True, mlp_bias=True),
        torch.float16, 40, 1, False),
    "llama_gqa8_dim64": (
        LlamaConfig(**sizes(64, 96, 2, 8, 1, 64, 201), rope_parameters={
            "rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}),
        torch.bfloat16, 66, 1, False),
    "qwen2_bias_tied": (
        Qwen2Config(**sizes(48, 80, 2, 4, 1, 16, 240), tie_word_embeddings=True),
        torch.bfloat16, 40, 1, True),
    "qwen2_window_sharded": (
        Qwen2Config(**sizes(64, 96, 2, 4, 2, 16, 222), use_sliding_window=True, sliding_window=24,
                    max_window_layers=1),
        torch.float32, 68, 3, False),
    "qwen3_dim80": (
        Qwen3Config(**sizes(64, 104, 2, 3, 1, 80, 206), attention_bias=True),
        torch.bfloat16, 48, 1, False),
    "qwen3_dim24_f32": (
        Qwen3Config(**sizes(32, 56, 2, 6, 2, 24, 199), tie_word_embeddings=True),
        torch.float32, 40, 1, False),
    "mistral_window": (
        MistralConfig(**sizes(64, 96, 2, 4, 1, 32, 208), sliding_window=20),
        torch.bfloat16, 72, 1, False),
}
CONTINUATION = 12
# Fields of every PretrainedConfig that say nothing about these models.
UNREAD = {"_name_or_path", "chunk_size_feed_forward", "id2label", "label2id", "is_encoder_decoder",
          "output_attentions", "output_hidden_states", "problem_type", "return_dict"}


def randomize(model, seed):
    """Norms and biases that are not trivial, and scores sharp enough that attention matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 1.0 + 0.25 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif "embed_tokens" in name:
            value = 0.7 * noise
        else:
            value = 1.6 * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)


def stored_state(model, dtype):
    state = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return state


def write_weights(folder, state, shards):
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(state)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: state[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in part})
    total = sum(value.numel() * value.element_size() for value in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_config(folder, config, dtype, old_layout):
    fields = json.loads(config.to_json_string(use_diff=False))
    for name in [name for name in fields if name in UNREAD or fields[name] is None]:
        del fields[name]
    fields["architectures"] = [type(config).__name__.replace("Config", "ForCausalLM")]
    fields["dtype"] = str(dtype).removeprefix("torch.")
    if old_layout:
        rope = fields.pop("rope_parameters")
        fields["rope_theta"] = rope.pop("rope_theta")
        fields["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        fields["torch_dtype"] = fields.pop("dtype")
    (folder / "config.json").write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n")
    if fields.get("eos_token_id") is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 5]}) + "\n")


def run(folder, tokens, dtype):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def make(name, config, dtype, prompt_length, shards, old_layout):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    seed = sum(name.encode())
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomize(model, seed)
    write_weights(folder, stored_state(model, dtype), shards)
    write_config(folder, config, dtype, old_layout)

    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, config.vocab_size, prompt_length).tolist()
    for _ in range(CONTINUATION):
        tokens.append(int(run(folder, tokens, torch.float32)[-1].argmax()))
    exact = run(folder, tokens, torch.float32)
    rounded = run(folder, tokens, torch.bfloat16)
    np.asarray(tokens, dtype="<i4").tofile(folder / "tokens.i32")
    exact.astype("<f4").tofile(folder / "logits.f32")
    upper_halves = rounded.astype("<f4").view("<u4") >> 16  # exact: the run's logits are bf16
    upper_halves.astype("<u2").tofile(folder / "logits.bf16")
    difference = np.abs(exact - rounded)
    margin = np.sort(exact[prompt_length - 1 : -1], axis=-1)
    golden = {
        "prompt": prompt_length,
        "continuation": CONTINUATION,
        "max_bf16_difference": float(difference.max()),
        "rms_bf16_difference": float(np.sqrt((difference**2).mean())),
        "smallest_greedy_margin": float((margin[:, -1] - margin[:, -2]).min()),
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(name, golden, "logit rms", float(np.sqrt((exact**2).mean())))


def main():
    assert torch.__version__.split("+")[0] == PINNED["torch"], torch.__version__
    assert transformers.__version__ == PINNED["transformers"], transformers.__version__
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name, arguments in MODELS.items():
        make(name, *arguments)


if __name__ == "__main__":
    main()
