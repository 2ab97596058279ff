"""A llama-like model of a few thousand parameters, and the two ways in which it is sharded."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import functional

VOCABULARY = 96
WIDTH = 16
HEADS = 2
HIDDEN = 40


class Norm(nn.Module):
    """Root-mean-square norm with a weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` scaled to unit mean square along its last dim."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Attention(nn.Module):
    """Causal self-attention with rotary positions; a rank may hold only some of the heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, width, bias=False)
        self.wv = nn.Linear(width, width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        """Attend over `x` of shape (batch, time, width); `angles` is (time, head_width / 2)."""
        batch, time, _ = x.shape
        heads = [
            w(x).view(batch, time, -1, self.head_width).transpose(1, 2)
            for w in (self.wq, self.wk, self.wv)
        ]
        query, key = rotate(heads[0], angles), rotate(heads[1], angles)
        mixed = functional.scaled_dot_product_attention(query, key, heads[2], is_causal=True)
        return self.wo(mixed.transpose(1, 2).reshape(batch, time, -1))


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turn each pair of the last dim of `x` by its position's angle."""
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, time, width) to the same shape."""
        return self.w2(functional.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = Norm(WIDTH)
        self.attention = Attention(WIDTH, HEADS)
        self.ffn_norm = Norm(WIDTH)
        self.feed_forward = FeedForward(WIDTH, HIDDEN)

    def forward(self, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        """Map (batch, time, width) to the same shape."""
        x = x + self.attention(self.attention_norm(x), angles)
        return x + self.feed_forward(self.ffn_norm(x))


class TinyLlama(nn.Module):
    """Embedding, `layers` blocks, norm, output; the rotary frequencies are a saved buffer."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(layers))
        self.norm = Norm(WIDTH)
        self.output = nn.Linear(WIDTH, VOCABULARY, bias=False)
        pairs = torch.arange(WIDTH // HEADS // 2)
        self.register_buffer("rope_inv_freq", 10_000.0 ** (-pairs / len(pairs)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, time, vocabulary) for int64 `tokens` (batch, time)."""
        positions = torch.arange(tokens.shape[1], dtype=torch.float32)
        angles = positions[:, None] * self.rope_inv_freq
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x, angles)
        return self.output(self.norm(x))


def sharded_model(layers: int, mesh: DeviceMesh) -> TinyLlama:
    """Build the model and shard it: FSDP2 over a 1-d mesh, FSDP2 x TP over a ("dp", "tp") mesh."""
    torch.manual_seed(0)
    model = TinyLlama(layers)
    data_mesh = mesh
    if mesh.ndim == 2:
        plan = {
            "attention.wq": ColwiseParallel(),
            "attention.wk": ColwiseParallel(),
            "attention.wv": ColwiseParallel(),
            "attention.wo": RowwiseParallel(),
            "feed_forward.w1": ColwiseParallel(),
            "feed_forward.w2": RowwiseParallel(),
            "feed_forward.w3": ColwiseParallel(),
        }
        for layer in model.layers:
            parallelize_module(layer, mesh["tp"], plan)
        data_mesh = mesh["dp"]
    for layer in model.layers:
        fully_shard(layer, mesh=data_mesh)
    fully_shard(model, mesh=data_mesh)
    return model
