"""A decoder of Llama's shape in PyTorch, to hold ours against: as well made as PyTorch is without a
compiler. bf16, fused projections (q, k, v; gate and up), sums into the residual by addmm, a static
KV cache of just the positions in use, attention of grouped queries by PyTorch's own kernels.
"""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

EPSILON = 1e-5
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": getattr(SDPBackend, "CUDNN_ATTENTION", None),
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
BACKENDS = {name: backend for name, backend in BACKENDS.items() if backend}  # older PyTorch
# How to call scaled_dot_product_attention. grouped: the query heads of a KV head as rows of one,
# which a step of one token allows, as all its rows see the same keys.
WAYS = [(backend, layout) for backend in BACKENDS for layout in ("gqa", "grouped")]


def way_name(way):
    return " ".join(way)


def attend(way, queries, keys, values):
    """queries [B, heads, T, D], keys and values [B, kv_heads, S, D]; causal, T is 1 or S.
    Returns [B, heads, T, D]. Raises RuntimeError where PyTorch has no such kernel."""
    backend, layout = way
    tokens = queries.shape[2]
    if tokens not in (1, keys.shape[2]):
        raise ValueError(f"{tokens} rows of {keys.shape[2]} keys")
    with sdpa_kernel(BACKENDS[backend]):
        if layout == "grouped":
            if tokens != 1:
                raise RuntimeError("one token only")
            rows = queries.reshape(queries.shape[0], keys.shape[1], -1, queries.shape[3])
            return F.scaled_dot_product_attention(rows, keys, values).reshape(queries.shape)
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=tokens > 1,
                                              enable_gqa=queries.shape[1] != keys.shape[1])


def rope_table(positions, head_dim, theta, device):
    """cos and sin, [positions, 1, head_dim / 2] f32."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=device).float() / head_dim)
    angles = torch.outer(torch.arange(positions, device=device).float(), frequencies)
    return angles.cos()[:, None], angles.sin()[:, None]


def rotate(heads, cos, sin):
    """heads [B, T, n, D], the halves of each rotated against one another."""
    half = heads.shape[-1] // 2
    rotated = heads * torch.cat((cos, cos), dim=-1)
    rotated[..., :half].addcmul_(heads[..., half:], sin, value=-1)
    rotated[..., half:].addcmul_(heads[..., :half], sin)
    return rotated


class Decoder:
    """Random weights of a shape: `sizes` as gpu_roofline's "decoder" has them."""

    def __init__(self, sizes, positions, *, device, dtype=torch.bfloat16, theta=500000.0):
        self.hidden, self.vocab = sizes["hidden"], sizes["vocab"]
        self.heads, self.kv_heads = sizes["heads"], sizes["kv_heads"]
        self.head_dim, inner = sizes["head_dim"], sizes["intermediate"]
        self.num_layers, self.device, self.dtype = sizes["layers"], device, dtype
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim

        def matrix(rows, columns):
            radius = (3.0 / columns) ** 0.5
            return torch.empty(rows, columns, device=device, dtype=dtype).uniform_(-radius, radius)

        def norm():
            return torch.empty(self.hidden, device=device, dtype=dtype).uniform_(0.9, 1.1)

        self.embedding, self.head = matrix(self.vocab, self.hidden), matrix(self.vocab, self.hidden)
        self.final_norm = norm()
        self.layers = [{
            "attention_norm": norm(), "qkv": matrix(q + 2 * kv, self.hidden),
            "output": matrix(self.hidden, q), "mlp_norm": norm(),
            "gate_up": matrix(2 * inner, self.hidden), "down": matrix(self.hidden, inner),
        } for _ in range(self.num_layers)]
        self.cos, self.sin = rope_table(positions, self.head_dim, theta, device)
        self.cos, self.sin = self.cos.to(dtype), self.sin.to(dtype)

    def new_cache(self, sequences, positions):
        """[layers] of [2 (K, V), sequences, kv_heads, positions, head_dim]: random."""
        shape = (2, sequences, self.kv_heads, positions, self.head_dim)
        return [torch.empty(shape, device=self.device, dtype=self.dtype).uniform_(-1, 1)
                for _ in range(self.num_layers)]

    def forward(self, tokens, start, cache, way):
        """tokens [B, T] at positions from `start` on; the cache has start + T positions. Returns
        the logits of each sequence's last token, [B, vocab]."""
        batch, count = tokens.shape
        rows = batch * count
        cos, sin = self.cos[start:start + count], self.sin[start:start + count]
        residual = F.embedding(tokens, self.embedding).view(rows, self.hidden)
        for layer, kv in zip(self.layers, cache):
            normed = F.rms_norm(residual, (self.hidden,), layer["attention_norm"], EPSILON)
            qkv = (normed @ layer["qkv"].t()).view(batch, count, -1, self.head_dim)
            rotated = rotate(qkv[:, :, :self.heads + self.kv_heads], cos, sin)
            kv[0, :, :, start:].copy_(rotated[:, :, self.heads:].transpose(1, 2))
            kv[1, :, :, start:].copy_(qkv[:, :, self.heads + self.kv_heads:].transpose(1, 2))
            seen = attend(way, rotated[:, :, :self.heads].transpose(1, 2), kv[0], kv[1])
            residual.addmm_(seen.transpose(1, 2).reshape(rows, -1), layer["output"].t())
            normed = F.rms_norm(residual, (self.hidden,), layer["mlp_norm"], EPSILON)
            gate, up = (normed @ layer["gate_up"].t()).chunk(2, dim=-1)
            residual.addmm_(F.silu(gate).mul_(up), layer["down"].t())
        last = residual.view(batch, count, self.hidden)[:, -1]
        return F.rms_norm(last, (self.hidden,), self.final_norm, EPSILON) @ self.head.t()

    def naive_logits(self, tokens):
        """tokens [T]: every token's logits, [T, vocab], in f32, nothing fused and no cache."""
        def norm(x, weight):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight.float()

        count = len(tokens)
        q_size, kv_size = self.heads * self.head_dim, self.kv_heads * self.head_dim
        mask = torch.ones(count, count, device=self.device).tril() == 0
        x = self.embedding[tokens].float()
        for layer in self.layers:
            heads = norm(x, layer["attention_norm"]) @ layer["qkv"].float().t()
            q, k, v = (part.view(count, -1, self.head_dim)
                       for part in heads.split([q_size, kv_size, kv_size], dim=-1))
            angles = []
            for part in (q, k):
                a, b = part.chunk(2, dim=-1)
                cos, sin = self.cos[:count].float(), self.sin[:count].float()
                angles.append(torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1))
            q, k = angles
            k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=1) for part in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q, k) / self.head_dim ** 0.5
            weights = scores.masked_fill(mask, float("-inf")).softmax(-1)
            seen = torch.einsum("hqk,khd->qhd", weights, v).reshape(count, q_size)
            x = x + seen @ layer["output"].float().t()
            gate, up = (norm(x, layer["mlp_norm"]) @ layer["gate_up"].float().t()).chunk(2, -1)
            x = x + (F.silu(gate) * up) @ layer["down"].float().t()
        return norm(x, self.final_norm) @ self.head.float().t()


def relative_rms(found, expected):
    return ((found.float() - expected).pow(2).mean() / expected.pow(2).mean()).sqrt().item()


def check(way, kind, kv_heads, device, dtype=torch.bfloat16):
    """The relative error of a prompt's logits, or of a further token's (`kind`: "prompt", "step"),
    by `way`, of a small decoder of 8 heads, against the naive computation. Some ways do one of them
    only, or do not let heads share keys."""
    sizes = {"hidden": 256, "intermediate": 384, "layers": 2, "vocab": 512, "heads": 8,
             "kv_heads": kv_heads, "head_dim": 64}
    torch.manual_seed(5)
    decoder = Decoder(sizes, 64, device=device, dtype=dtype)
    tokens = torch.randint(0, 512, (3, 41), device=device)
    naive = torch.stack([decoder.naive_logits(row) for row in tokens])
    cache = decoder.new_cache(3, 40)
    prompt_way = way if kind == "prompt" else WAYS[0]
    logits = decoder.forward(tokens[:, :40], 0, cache, prompt_way)
    if kind == "prompt":
        return relative_rms(logits, naive[:, 39])
    longer = [torch.cat((kv, torch.zeros_like(kv[..., :1, :])), dim=-2) for kv in cache]
    return relative_rms(decoder.forward(tokens[:, 40:], 40, longer, way), naive[:, 40])
