"""From a tower of frozen blocks back to the tensors of an open_clip visual model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fewshot_i2v.encoders.plain import PlainTower
from fewshot_i2v.encoders.tower import FrozenBlock, LayerNorm, Tower
from fewshot_i2v.errors import EncoderError


def visual_state(tower: Tower, *, layer_scale: bool = False) -> dict[str, Tensor]:
    """The tensors of open_clip's VisionTransformer that computes what a tower does.

    The inverse of `tower_from_visual`: what was folded into `fc` and `proj` for QuickGELU is taken
    out again, so that a model with the activation of the original gives the same features.

    Args:
        tower: whose blocks can be walked.
        layer_scale: whether the model has layer scale. It stays folded into the weights, so its
            gammas are ones.

    Returns:
        Names without `visual.` in front to float32 tensors of their own, on the CPU.

    Raises:
        EncoderError: when the tower has no blocks or no projection.
    """
    if isinstance(tower, PlainTower):
        raise EncoderError(f"this encoder's weights cannot be written: {tower.reason}")
    if tower.projection is None:
        raise EncoderError(
            "this encoder has no projection into the space shared with text (`proj`), which every "
            "open_clip visual tower has; its weights cannot be written in that form"
        )
    parts = {
        "conv1.weight": tower.patch_weight,
        "class_embedding": tower.class_token,
        "positional_embedding": tower.positions,
        "proj": tower.projection,
        **_norm("ln_post", tower.norm_post),
    }
    if tower.norm_pre is not None:
        parts |= _norm("ln_pre", tower.norm_pre)
    for i, block in enumerate(tower.blocks):
        parts |= {f"transformer.resblocks.{i}.{name}": t for name, t in _block(block)}
        if layer_scale:
            ones = torch.ones(tower.width)
            parts |= {f"transformer.resblocks.{i}.ls_{n}.gamma": ones for n in (1, 2)}
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in parts.items()
    }


def _norm(name: str, norm: LayerNorm) -> dict[str, Tensor]:
    return {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}


def _block(block: FrozenBlock) -> Iterator[tuple[str, Tensor]]:
    yield from _norm("ln_1", block.norm_1).items()
    yield "attn.in_proj_weight", block.qkv_weight
    yield "attn.in_proj_bias", block.qkv_bias
    yield "attn.out_proj.weight", block.out_weight
    yield "attn.out_proj.bias", block.out_bias
    yield from _norm("ln_2", block.norm_2).items()
    yield "mlp.c_fc.weight", block.fc_weight / block.gain
    yield "mlp.c_fc.bias", block.fc_bias / block.gain
    yield "mlp.c_proj.weight", block.proj_weight * block.gain
    yield "mlp.c_proj.bias", block.proj_bias
