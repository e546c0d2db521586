"""The frozen parts of a transformer block, which adapters put together anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Up to this length the fused CUDA kernels of attention leave most of a tile empty.
_SHORT_SEQUENCE = 16
# The fused CUDA kernels take at most 65,535 sequences at once.
_MOST_SEQUENCES = 65_535


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot product attention of (B, H, L, d) tensors; B sequences of L tokens, H heads."""
    if _plain_products_are_faster(q):
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        weights: Tensor = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
        return weights @ v
    if q.shape[0] <= _MOST_SEQUENCES or not q.is_cuda:
        return functional.scaled_dot_product_attention(q, k, v)
    parts = (torch.split(t, _MOST_SEQUENCES) for t in (q, k, v))
    attended = [functional.scaled_dot_product_attention(*p) for p in zip(*parts, strict=True)]
    return torch.cat(attended)


def _plain_products_are_faster(q: Tensor) -> bool:
    """Whether two matrix products beat the fused kernel, forward and backward.

    Measured on CPU, one core with AMX, PyTorch 2.15: in bfloat16 the fused kernel takes 5 times as
    long at 50 tokens and 1.6 times at 197; in float32 it is the faster at every length. A fused
    CUDA kernel works on tiles of 128 tokens, which short sequences leave empty.
    """
    if q.is_cuda:
        return q.shape[-2] <= _SHORT_SEQUENCE
    return q.dtype != torch.float32


QUICK = 1.702
"""QuickGELU is u * sigmoid(1.702 u)."""


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """A frozen layer norm.

    Attributes:
        weight: scale, (D,).
        bias: shift, (D,).
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5

    def __call__(self, x: Tensor) -> Tensor:
        """Normalises the last axis; statistics are in float32 whatever the type of `x`."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def to(self, device: torch.device, dtype: torch.dtype) -> LayerNorm:
        """A copy on a device in a floating type."""
        return LayerNorm(self.weight.to(device, dtype), self.bias.to(device, dtype), self.eps)


@dataclass(frozen=True, eq=False)
class FrozenBlock:
    """One pre-norm transformer block: `x + attend(ln_1(x))`, then `x + mlp(ln_2(x))`.

    Layer scale, where the model has it, is folded into `out` and `proj`; QuickGELU
    `u * sigmoid(1.702 u)` is computed as SiLU with 1.702 folded into `fc` and its inverse into
    `proj` (the same function; one operation and one saved tensor fewer). Merging a linear map
    into `fc` or `proj` commutes with both.

    Attributes:
        heads: attention heads H; head j owns channels [j D/H, (j + 1) D/H) of q, k and v.
        norm_1: layer norm before the attention.
        qkv_weight: (3D, D), rows q, k, v.
        qkv_bias: (3D,).
        out_weight: (D, D).
        out_bias: (D,).
        norm_2: layer norm before the MLP.
        fc_weight: (hidden, D).
        fc_bias: (hidden,).
        proj_weight: (D, hidden).
        proj_bias: (D,).
        activation: "silu" (QuickGELU, folded) or "gelu" (exact).
    """

    heads: int
    norm_1: LayerNorm
    qkv_weight: Tensor
    qkv_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    norm_2: LayerNorm
    fc_weight: Tensor
    fc_bias: Tensor
    proj_weight: Tensor
    proj_bias: Tensor
    activation: str = "gelu"

    def ln_1(self, x: Tensor) -> Tensor:
        """Layer norm before the attention, (..., D)."""
        return self.norm_1(x)

    def ln_2(self, x: Tensor) -> Tensor:
        """Layer norm before the MLP, (..., D)."""
        return self.norm_2(x)

    def qkv(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens (..., L, D), each (..., L, H, D/H)."""
        # with permuted tokens a linear map would repeat its weights for every sequence
        return self.split(functional.linear(u.contiguous(), self.qkv_weight, self.qkv_bias))

    def split(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head, each (..., L, H, D/H), of (..., L, 3D)."""
        size = packed.shape[-1] // (3 * self.heads)
        q, k, v = packed.reshape(*packed.shape[:-1], 3, self.heads, size).unbind(-3)
        return q, k, v

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention as in `heads_of` and the output projection, (..., L, D)."""
        return functional.linear(self.heads_of(q, k, v), self.out_weight, self.out_bias)

    @staticmethod
    def heads_of(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of each head, side by side, before the output projection.

        Args:
            q: queries, (..., L, H, D/H).
            k: keys, same shape.
            v: values, same shape.

        Returns:
            (..., L, D).
        """
        lead, (length, heads, size) = q.shape[:-3], q.shape[-3:]
        flat = (-1, length, heads, size)
        out = attention(*(t.reshape(flat).transpose(1, 2) for t in (q, k, v)))
        return out.transpose(1, 2).reshape(*lead, length, heads * size)

    def attend(self, u: Tensor) -> Tensor:
        """Multi-head self-attention over the second last axis, (..., L, D) -> (..., L, D)."""
        return self.mix(*self.qkv(u))

    def mlp(self, u: Tensor) -> Tensor:
        """The two-layer perceptron of the block, (..., D) -> (..., D)."""
        hidden = self.activate(functional.linear(u, self.fc_weight, self.fc_bias))
        return functional.linear(hidden, self.proj_weight, self.proj_bias)

    def activate(self, hidden: Tensor) -> Tensor:
        """The activation between `fc` and `proj`."""
        return functional.silu(hidden) if self.activation == "silu" else functional.gelu(hidden)

    @property
    def gain(self) -> float:
        """What `fc` holds of the pretrained weights: they times this; `proj`: divided by it."""
        return QUICK if self.activation == "silu" else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """The block as it was pretrained, (..., L, D) -> (..., L, D)."""
        x = x + self.attend(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

    def to(self, device: torch.device, dtype: torch.dtype) -> FrozenBlock:
        """A copy on a device in a floating type."""
        moved: dict[str, Any] = {
            name: value.to(device, dtype)
            for name, value in vars(self).items()
            if isinstance(value, Tensor | LayerNorm)
        }
        return replace(self, **moved)
