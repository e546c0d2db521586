"""From an open_clip visual model to a tower of frozen blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.models.encoders.block import QUICK, FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.opaque_tower import plain_tower
from fewshot_i2v.models.encoders.tower import Tower

if TYPE_CHECKING:
    from open_clip.transformer import LayerScale, ResidualAttentionBlock, VisionTransformer


def tower_from_visual(visual: nn.Module, *, mean: Tensor, std: Tensor) -> Tower:
    """The frozen tower of an open_clip visual model.

    Vision transformers with open_clip's standard blocks (GELU or QuickGELU, with or without layer
    scale and the first layer norm; pooled by class token, or by mean before the last layer norm)
    are walked block by block. Every other model becomes a `PlainTower`: usable frozen, with no
    blocks to adapt.

    Args:
        visual: an open_clip visual model; its weights are copied as float32, never changed.
        mean: per channel, of pixels in [0, 1], (3,).
        std: per channel, (3,).

    Raises:
        EncoderError: when the model gives no feature vector per image or takes no square input.
    """
    reason = _why_not(visual)
    if reason:
        return plain_tower(visual, mean=mean, std=std, reason=reason)
    model: VisionTransformer = visual
    return Tower(
        image_size=model.image_size[0],
        patch_weight=_copy(model.conv1.weight),
        class_token=_copy(model.class_embedding),
        positions=_copy(model.positional_embedding),
        norm_pre=None if isinstance(model.ln_pre, nn.Identity) else _norm(model.ln_pre),
        blocks=tuple(_block(block) for block in model.transformer.resblocks),
        norm_post=_norm(model.ln_post),
        pool=model.pool_type,
        projection=None if model.proj is None else _copy(model.proj),
        mean=mean.float(),
        std=std.float(),
    )


def _why_not(visual: VisionTransformer) -> str:
    """Why the blocks of a visual model cannot be walked, or "" when they can."""
    from open_clip import transformer as parts

    if type(visual) is not parts.VisionTransformer:
        known = {"ModifiedResNet": catalog.RESNET, "TimmModel": catalog.TIMM}
        if type(visual).__name__ in known:
            return known[type(visual).__name__]
        return f"{type(visual).__name__} is not open_clip's VisionTransformer"
    if type(visual.transformer) is not parts.Transformer:
        return f"its transformer ({type(visual.transformer).__name__}) is not the standard one"
    if visual.attn_pool is not None:
        return catalog.ATTENTION_POOL
    if visual.pool_type != "tok" and not (visual.pool_type == "avg" and visual.final_ln_after_pool):
        return f"its pooling ({visual.pool_type!r}, layer norm first) is not known"
    if len(set(visual.image_size)) > 1 or len(set(visual.patch_size)) > 1:
        return "its input or its patches are not square"
    if not len(visual.transformer.resblocks):
        return "it has no transformer block"
    reasons = (_why_not_block(block) for block in visual.transformer.resblocks)
    return next(filter(None, reasons), "")


def _why_not_block(block: ResidualAttentionBlock) -> str:
    from open_clip import transformer as parts

    if type(block) is not parts.ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return f"its blocks ({type(block).__name__}) are not the standard ones"
    if type(block.attn) is not nn.MultiheadAttention or block.attn.in_proj_bias is None:
        return f"its attention ({type(block.attn).__name__}) is not the standard one"
    act = block.mlp.gelu
    known = type(act) is parts.QuickGELU or (type(act) is nn.GELU and act.approximate == "none")
    return "" if known else f"its activation ({act}) is neither GELU nor QuickGELU"


def _copy(weight: Tensor) -> Tensor:
    return weight.detach().to(torch.float32, copy=True).contiguous()


def _norm(norm: nn.LayerNorm) -> LayerNorm:
    return LayerNorm(_copy(norm.weight), _copy(norm.bias), norm.eps)


def _scale(layer: LayerScale | nn.Identity) -> Tensor | float:
    """What a layer scale multiplies by, per output channel (D, 1)."""
    return 1.0 if isinstance(layer, nn.Identity) else _copy(layer.gamma)[:, None]


def _block(block: ResidualAttentionBlock) -> FrozenBlock:
    attention, fc, proj = block.attn, block.mlp.c_fc, block.mlp.c_proj
    quick = QUICK if type(block.mlp.gelu).__name__ == "QuickGELU" else 1.0
    after, last = _scale(block.ls_1), _scale(block.ls_2)
    return FrozenBlock(
        heads=attention.num_heads,
        norm_1=_norm(block.ln_1),
        qkv_weight=_copy(attention.in_proj_weight),
        qkv_bias=_copy(attention.in_proj_bias),
        out_weight=_copy(attention.out_proj.weight) * after,
        out_bias=(_copy(attention.out_proj.bias)[:, None] * after)[:, 0],
        norm_2=_norm(block.ln_2),
        fc_weight=_copy(fc.weight) * quick,
        fc_bias=_copy(fc.bias) * quick,
        proj_weight=_copy(proj.weight) * last / quick,
        proj_bias=(_copy(proj.bias)[:, None] * last)[:, 0],
        activation="silu" if quick != 1.0 else "gelu",
    )
