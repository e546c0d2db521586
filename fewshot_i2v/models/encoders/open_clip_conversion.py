"""Conversion between open_clip visual models and towers of frozen blocks, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.models.encoders.block import QUICK_GELU_FACTOR, FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.opaque_tower import make_opaque_tower
from fewshot_i2v.models.encoders.plain_transformer import PlainVisionTransformer
from fewshot_i2v.models.encoders.tower import Tower

if TYPE_CHECKING:
    from open_clip.transformer import LayerScale, ResidualAttentionBlock, VisionTransformer


def tower_from_open_clip(visual: nn.Module, *, mean: Tensor, std: Tensor) -> Tower:
    """Convert an open_clip visual model to a frozen tower.

    Vision transformers with open_clip's standard blocks (GELU or QuickGELU, with or without layer
    scale and the first layer norm; pooled by class token, or by mean before the last layer norm)
    are converted block by block. Every other model becomes an `OpaqueTower`: usable frozen, with no
    blocks to adapt.

    Args:
        visual: an open_clip visual model; its weights are copied as float32, never changed.
        mean: per channel, of pixels in [0, 1], (3,).
        std: per channel, (3,).

    Raises:
        EncoderError: when the model gives no feature vector per image or takes no square input.
    """
    reason = _unsupported_reason(visual)
    if reason:
        return make_opaque_tower(visual, mean=mean, std=std, reason=reason)
    model: VisionTransformer = visual
    return Tower(
        image_size=model.image_size[0],
        patch_weight=_copy_weight(model.conv1.weight),
        class_token=_copy_weight(model.class_embedding),
        positions=_copy_weight(model.positional_embedding),
        norm_pre=None if isinstance(model.ln_pre, nn.Identity) else _frozen_norm(model.ln_pre),
        blocks=tuple(_frozen_block(block) for block in model.transformer.resblocks),
        norm_post=_frozen_norm(model.ln_post),
        pool=model.pool_type,
        projection=None if model.proj is None else _copy_weight(model.proj),
        mean=mean.float(),
        std=std.float(),
    )


def _unsupported_reason(visual: VisionTransformer) -> str:
    """Return why the blocks of a visual model cannot be converted, or "" when they can."""
    if isinstance(visual, PlainVisionTransformer):
        return ""
    from open_clip import transformer as clip_modules

    if type(visual) is not clip_modules.VisionTransformer:
        reason_by_type = {"ModifiedResNet": catalog.RESNET_REASON, "TimmModel": catalog.TIMM_REASON}
        if type(visual).__name__ in reason_by_type:
            return reason_by_type[type(visual).__name__]
        return f"{type(visual).__name__} is not open_clip's VisionTransformer"
    if type(visual.transformer) is not clip_modules.Transformer:
        return f"its transformer ({type(visual.transformer).__name__}) is not the standard one"
    if visual.attn_pool is not None:
        return catalog.ATTENTION_POOL_REASON
    if visual.pool_type != "tok" and not (visual.pool_type == "avg" and visual.final_ln_after_pool):
        return f"its pooling ({visual.pool_type!r}, layer norm first) is not known"
    if len(set(visual.image_size)) > 1 or len(set(visual.patch_size)) > 1:
        return "its input or its patches are not square"
    if not len(visual.transformer.resblocks):
        return "it has no transformer block"
    reasons = (_unsupported_block_reason(block) for block in visual.transformer.resblocks)
    return next(filter(None, reasons), "")


def _unsupported_block_reason(block: ResidualAttentionBlock) -> str:
    from open_clip import transformer as clip_modules

    if type(block) is not clip_modules.ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return f"its blocks ({type(block).__name__}) are not the standard ones"
    if type(block.attn) is not nn.MultiheadAttention or block.attn.in_proj_bias is None:
        return f"its attention ({type(block.attn).__name__}) is not the standard one"
    activation = block.mlp.gelu
    is_supported = type(activation) is clip_modules.QuickGELU or (
        type(activation) is nn.GELU and activation.approximate == "none"
    )
    return "" if is_supported else f"its activation ({activation}) is neither GELU nor QuickGELU"


def _copy_weight(weight: Tensor) -> Tensor:
    return weight.detach().to(torch.float32, copy=True).contiguous()


def _frozen_norm(norm: nn.LayerNorm) -> LayerNorm:
    return LayerNorm(_copy_weight(norm.weight), _copy_weight(norm.bias), norm.eps)


def _layer_scale(layer: LayerScale | nn.Identity) -> Tensor | float:
    """Return the factors of a layer scale, per output channel (D, 1)."""
    return 1.0 if isinstance(layer, nn.Identity) else _copy_weight(layer.gamma)[:, None]


def _frozen_block(block: ResidualAttentionBlock) -> FrozenBlock:
    attention, fc, proj = block.attn, block.mlp.c_fc, block.mlp.c_proj
    gain = QUICK_GELU_FACTOR if type(block.mlp.gelu).__name__ == "QuickGELU" else 1.0
    attention_scale, mlp_scale = _layer_scale(block.ls_1), _layer_scale(block.ls_2)
    return FrozenBlock(
        heads=attention.num_heads,
        norm_1=_frozen_norm(block.ln_1),
        qkv_weight=_copy_weight(attention.in_proj_weight),
        qkv_bias=_copy_weight(attention.in_proj_bias),
        out_weight=_copy_weight(attention.out_proj.weight) * attention_scale,
        out_bias=(_copy_weight(attention.out_proj.bias)[:, None] * attention_scale)[:, 0],
        norm_2=_frozen_norm(block.ln_2),
        fc_weight=_copy_weight(fc.weight) * gain,
        fc_bias=_copy_weight(fc.bias) * gain,
        proj_weight=_copy_weight(proj.weight) * mlp_scale / gain,
        proj_bias=(_copy_weight(proj.bias)[:, None] * mlp_scale)[:, 0],
        activation="silu" if gain != 1.0 else "gelu",
    )


def open_clip_state_dict(tower: Tower, *, layer_scale: bool = False) -> dict[str, Tensor]:
    """Return the tensors of the open_clip VisionTransformer that computes the same as a tower.

    The inverse of `tower_from_open_clip`: the factor that was folded into `fc` and `proj` for
    QuickGELU is taken out again, so that a model with the activation of the original gives the same
    features.

    Args:
        tower: a tower with blocks.
        layer_scale: whether the model has layer scale. It stays folded into the weights, so its
            gammas are ones.

    Returns:
        Names without `visual.` in front to independent float32 tensors on the CPU.

    Raises:
        EncoderError: when the tower has no blocks or no projection.
    """
    if not tower.blocks:
        reason = getattr(tower, "reason", "it has no transformer block")
        raise EncoderError(f"this encoder's weights cannot be written: {reason}")
    if tower.projection is None:
        raise EncoderError(
            "this encoder has no projection into the space shared with text (`proj`), which every "
            "open_clip visual tower has; its weights cannot be written in that form"
        )
    tensors = {
        "conv1.weight": tower.patch_weight,
        "class_embedding": tower.class_token,
        "positional_embedding": tower.positions,
        "proj": tower.projection,
        **_norm_tensors("ln_post", tower.norm_post),
    }
    if tower.norm_pre is not None:
        tensors |= _norm_tensors("ln_pre", tower.norm_pre)
    for i, block in enumerate(tower.blocks):
        tensors |= {f"transformer.resblocks.{i}.{name}": t for name, t in _block_tensors(block)}
        if layer_scale:
            ones = torch.ones(tower.width)
            tensors |= {f"transformer.resblocks.{i}.ls_{n}.gamma": ones for n in (1, 2)}
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in tensors.items()
    }


def _norm_tensors(name: str, norm: LayerNorm) -> dict[str, Tensor]:
    return {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}


def _block_tensors(block: FrozenBlock) -> Iterator[tuple[str, Tensor]]:
    yield from _norm_tensors("ln_1", block.norm_1).items()
    yield "attn.in_proj_weight", block.qkv_weight
    yield "attn.in_proj_bias", block.qkv_bias
    yield "attn.out_proj.weight", block.out_weight
    yield "attn.out_proj.bias", block.out_bias
    yield from _norm_tensors("ln_2", block.norm_2).items()
    yield "mlp.c_fc.weight", block.fc_weight / block.activation_gain
    yield "mlp.c_fc.bias", block.fc_bias / block.activation_gain
    yield "mlp.c_proj.weight", block.proj_weight * block.activation_gain
    yield "mlp.c_proj.bias", block.proj_bias
