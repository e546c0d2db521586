"""The frozen operations of a transformer block, from which adapters build their blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

# Up to this length the fused CUDA kernels of attention leave most of a tile empty.
_SHORT_SEQUENCE = 16
# The fused CUDA kernels take at most 65,535 sequences at once.
_MAX_SEQUENCES = 65_535


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot product attention of (B, H, L, d) tensors; B sequences of L tokens, H heads.

    There may be fewer queries than keys and values.
    """
    if _matmul_is_faster(q, k):
        # q is scaled rather than the scores, which are L times as many
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        # a softmax in bfloat16 would sum L weights with 8 bits each
        weights: Tensor = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
        return weights @ v
    if not q.is_cuda or q.shape[0] <= _MAX_SEQUENCES:
        return functional.scaled_dot_product_attention(q, k, v)
    chunks = (torch.split(t, _MAX_SEQUENCES) for t in (q, k, v))
    attended = [
        functional.scaled_dot_product_attention(*chunk) for chunk in zip(*chunks, strict=True)
    ]
    return torch.cat(attended)


def _matmul_is_faster(q: Tensor, k: Tensor) -> bool:
    """Return whether two matrix products beat the fused kernel, forward and backward.

    Measured on CPU, one core with AMX, PyTorch 2.15: in bfloat16 the fused kernel takes 5 times as
    long at 50 tokens and 1.6 times at 197; in float32 it is the faster at every length. A fused
    CUDA kernel works on tiles of 128 tokens, which short sequences leave empty. For one query of
    many tokens, matrix products would copy keys and values, and the fused kernel does not.
    """
    if q.is_cuda:
        return k.shape[-2] <= _SHORT_SEQUENCE
    return q.dtype != torch.float32


QUICK_GELU_FACTOR = 1.702
"""QuickGELU is u * sigmoid(1.702 u)."""


def read_tokens(x: Tensor, class_token_only: bool) -> Tensor:
    """Return the class token of each frame, (..., 1, D), or all tokens, (..., L, D)."""
    return x[..., :1, :] if class_token_only else x


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
        """Normalise the last axis; statistics are in float32 whatever the type of `x`."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def to(self, device: torch.device, dtype: torch.dtype) -> LayerNorm:
        """Return a copy on a device in a floating type."""
        return LayerNorm(self.weight.to(device, dtype), self.bias.to(device, dtype), self.eps)


@dataclass(frozen=True, eq=False)
class FrozenBlock:
    """One pre-norm transformer block: `x + self_attention(ln_1(x))`, then `x + mlp(ln_2(x))`.

    Layer scale, where the model has it, is folded into `out` and `proj`; QuickGELU
    `u * sigmoid(1.702 u)` is computed as SiLU with 1.702 folded into `fc` and its inverse into
    `proj` (the same function; one operation and one saved tensor fewer). Merging a linear map
    into `fc` or `proj` commutes with both.

    Where the class token alone is read of a block, `class_token_only` leaves out what does not
    reach it: all but keys and values of the other tokens.

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
        """Apply the layer norm before the attention, (..., D)."""
        return self.norm_1(x)

    def ln_2(self, x: Tensor) -> Tensor:
        """Apply the layer norm before the MLP, (..., D)."""
        return self.norm_2(x)

    def qkv(self, u: Tensor, *, class_token_only: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values of tokens (..., L, D), each (..., L, H, D/H).

        Args:
            u: normalised tokens.
            class_token_only: whether queries are those of the class token alone, (..., 1, H, D/H).
        """
        # with permuted tokens a linear map would repeat its weights for every sequence
        u = u.contiguous()
        if not class_token_only:
            return self.split_qkv(functional.linear(u, self.qkv_weight, self.qkv_bias))
        width = self.out_weight.shape[0]
        class_token = read_tokens(u, class_token_only).contiguous()
        queries = functional.linear(class_token, self.qkv_weight[:width], self.qkv_bias[:width])
        packed = functional.linear(u, self.qkv_weight[width:], self.qkv_bias[width:])
        keys, values = rearrange(packed, "... (kv h d) -> kv ... h d", kv=2, h=self.heads)
        return rearrange(queries, "... (h d) -> ... h d", h=self.heads), keys, values

    def split_qkv(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (..., L, 3D) into queries, keys and values by head, each (..., L, H, D/H)."""
        by_head = rearrange(packed, "... (qkv h d) -> ... qkv h d", qkv=3, h=self.heads)
        q, k, v = by_head.unbind(-3)
        return q, k, v

    def attend_qkv(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Apply `attention_heads` and the output projection, a row (D,) for each query."""
        return functional.linear(self.attention_heads(q, k, v), self.out_weight, self.out_bias)

    @staticmethod
    def attention_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Compute the attention of each head, concatenated, before the output projection.

        Args:
            q: queries, (..., L, H, D/H), or of the class token alone, (..., 1, H, D/H).
            k: keys, (..., L, H, D/H).
            v: values, same shape.

        Returns:
            One row for each query, (..., L, D) or (..., 1, D).
        """
        # the fused kernels take one batch axis only
        out = attention(*(rearrange(t, "... l h d -> (...) h l d") for t in (q, k, v)))
        out = rearrange(out, "b h l d -> b l (h d)")
        return out.reshape(*q.shape[:-3], *out.shape[1:])

    def self_attention(self, u: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Multi-head self-attention over the second last axis, (..., L, D) -> (..., L, D).

        With `class_token_only` the result is that of the class token, (..., 1, D).
        """
        return self.attend_qkv(*self.qkv(u, class_token_only=class_token_only))

    def mlp(self, u: Tensor) -> Tensor:
        """Apply the two-layer perceptron of the block, (..., D) -> (..., D)."""
        hidden = self.activate(functional.linear(u, self.fc_weight, self.fc_bias))
        return functional.linear(hidden, self.proj_weight, self.proj_bias)

    def activate(self, hidden: Tensor) -> Tensor:
        """Apply the activation between `fc` and `proj`."""
        return functional.silu(hidden) if self.activation == "silu" else functional.gelu(hidden)

    @property
    def activation_gain(self) -> float:
        """Factor folded into the pretrained weights: `fc` is multiplied by it, `proj` divided."""
        return QUICK_GELU_FACTOR if self.activation == "silu" else 1.0

    def forward(self, x: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Compute the block as it was pretrained, (..., L, D) -> (..., L, D).

        With `class_token_only` the result is the class token, (..., 1, D).
        """
        attended = self.self_attention(self.ln_1(x), class_token_only=class_token_only)
        x = read_tokens(x, class_token_only) + attended
        return x + self.mlp(self.ln_2(x))

    def to(self, device: torch.device, dtype: torch.dtype) -> FrozenBlock:
        """Return a copy on a device in a floating type."""
        replaced: dict[str, Any] = {
            name: value.to(device, dtype)
            for name, value in vars(self).items()
            if isinstance(value, Tensor | LayerNorm)
        }
        return replace(self, **replaced)
