"""The Llama architecture in plain PyTorch, with Hugging Face parameter names.

Equivalent to transformers' LlamaForCausalLM (evaluate.py loads the exported directory with transformers);
written out because it trains faster on a CPU.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Shape:
    hidden_size: int = 256
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    intermediate_size: int = 640
    vocab_size: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 2048


SHAPES = {"demo": Shape(), "demo-draft": Shape(num_hidden_layers=3, intermediate_size=384)}


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def rope_tables(shape, length):
    """cos and sin of the rotary angles, [length, head_dim], in the half-split (Llama) layout."""
    inv = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
    angles = torch.outer(torch.arange(length).float(), inv)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.q_proj = nn.Linear(s.hidden_size, s.num_attention_heads * s.head_dim, bias=False)
        self.k_proj = nn.Linear(s.hidden_size, s.num_key_value_heads * s.head_dim, bias=False)
        self.v_proj = nn.Linear(s.hidden_size, s.num_key_value_heads * s.head_dim, bias=False)
        self.o_proj = nn.Linear(s.num_attention_heads * s.head_dim, s.hidden_size, bias=False)

    def forward(self, x, cos, sin):  # x: [batch, length, hidden]
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, -1, self.s.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(b, t, -1, self.s.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(b, t, -1, self.s.head_dim).transpose(1, 2)
        groups = self.s.num_attention_heads // self.s.num_key_value_heads
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden_size, s.intermediate_size, bias=False)
        self.up_proj = nn.Linear(s.hidden_size, s.intermediate_size, bias=False)
        self.down_proj = nn.Linear(s.intermediate_size, s.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.input_layernorm = RMSNorm(s.hidden_size, s.rms_norm_eps)
        self.self_attn = Attention(s)
        self.post_attention_layernorm = RMSNorm(s.hidden_size, s.rms_norm_eps)
        self.mlp = MLP(s)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Parameter names are those of LlamaForCausalLM without the leading "model."."""

    def __init__(self, s):
        super().__init__()
        self.s = s
        self.embed_tokens = nn.Embedding(s.vocab_size, s.hidden_size)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.num_hidden_layers))
        self.norm = RMSNorm(s.hidden_size, s.rms_norm_eps)
        cos, sin = rope_tables(s, s.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * s.num_hidden_layers) if deep else 1))

    def forward(self, ids, targets, dtype):
        """Mean cross-entropy over the targets that are not -100; all products in `dtype`."""
        t = ids.shape[1]
        cos, sin = self.cos[:t].to(dtype), self.sin[:t].to(dtype)
        x = self.embed_tokens(ids).to(dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = F.linear(self.norm(x), self.embed_tokens.weight)  # Tied embeddings.
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


# Of the demo model's layers, the ones with which the companion starts: the best triple by held-out loss.
KEPT_LAYERS = (0, 1, 3)


@torch.no_grad()
def pruned(big, shape, layers=KEPT_LAYERS):
    """A smaller model made of some of big's layers, each with its strongest feed-forward neurons."""
    small = Llama(shape)
    small.embed_tokens.load_state_dict(big.embed_tokens.state_dict())
    small.norm.load_state_dict(big.norm.state_dict())
    for mine, i in zip(small.layers, layers):
        theirs = big.layers[i]
        for part in ("input_layernorm", "self_attn", "post_attention_layernorm"):
            getattr(mine, part).load_state_dict(getattr(theirs, part).state_dict())
        mlp = theirs.mlp
        strength = mlp.gate_proj.weight.norm(dim=1) * mlp.up_proj.weight.norm(dim=1) * mlp.down_proj.weight.norm(dim=0)
        best = strength.topk(shape.intermediate_size).indices.sort().values
        mine.mlp.gate_proj.weight.copy_(mlp.gate_proj.weight[best])
        mine.mlp.up_proj.weight.copy_(mlp.up_proj.weight[best])
        mine.mlp.down_proj.weight.copy_(mlp.down_proj.weight[:, best])
    return small
