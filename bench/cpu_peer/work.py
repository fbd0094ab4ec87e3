"""What is measured: the five points, and the arithmetic and memory traffic of each."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Point:
    """`sequences` sequences that have `context` tokens behind them and run `tokens` more each."""
    name: str
    sequences: int
    context: int
    tokens: int
    repeats: int  # in a round

    @property
    def total_tokens(self):
        return self.sequences * self.tokens

    @property
    def shape(self):
        return f"{self.sequences} {self.context} {self.tokens}"

    def settings(self):
        """llama.cpp's FLASH, UBATCH and UNIFIED (see llama_peer.py) worth trying."""
        if self.tokens == 1:
            layouts = [(512, 0), (512, 1)] if self.sequences > 1 else [(512, 0)]
        else:
            layouts = [(ubatch, 0) for ubatch in (512, 2048) if ubatch <= self.tokens]
        return [(flash, *layout) for flash in (0, 1) for layout in layouts]


# A decode step attends to 256 tokens, its own among them: llama.cpp attends to whole 256s, and
# would do twice the work for one more.
POINTS = [Point("prefill512", 1, 0, 512, 3), Point("prefill2048", 1, 0, 2048, 2),
          Point("decode1", 1, 255, 1, 16), Point("decode8", 8, 255, 1, 12),
          Point("decode32", 32, 255, 1, 8)]


def linear_parameters(config):
    """Of the layers' matrices."""
    hidden = config["hidden_size"]
    q_size = config["num_attention_heads"] * config["head_dim"]
    kv_size = config["num_key_value_heads"] * config["head_dim"]
    attention = hidden * (2 * q_size + 2 * kv_size)
    return config["num_hidden_layers"] * (attention + 3 * hidden * config["intermediate_size"])


def flop(config, point):
    """Multiplies and adds of the matrices, of attention over the mean context, and of one row of
    logits a sequence."""
    linear = 2 * point.total_tokens * linear_parameters(config)
    logits = 2 * point.sequences * config["vocab_size"] * config["hidden_size"]
    mean_context = point.context + (point.tokens + 1) / 2
    heads = config["num_attention_heads"] * config["head_dim"] * config["num_hidden_layers"]
    return linear + logits + 4 * point.total_tokens * mean_context * heads


def read_bytes(config, point, weight_bytes):
    """The weights of layers and logits once, and the KV cache (16 bits a number) once."""
    kv_numbers = 2 * (config["num_key_value_heads"] * config["head_dim"]
                      * config["num_hidden_layers"])
    return weight_bytes + 2 * kv_numbers * (point.context + point.tokens) * point.sequences
