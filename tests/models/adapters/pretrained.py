"""An open_clip vision transformer with random weights, for methods that train parts of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders.open_clip_conversion import tower_from_open_clip
from fewshot_i2v.models.encoders.tower import Tower

WIDTH, LAYERS = 32, 3


def make_visual(*, quick_gelu: bool, **options: Any) -> nn.Module:
    """A small open_clip visual tower without projection; weights of a fixed seed."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    act = QuickGELU if quick_gelu else nn.GELU
    shape: dict[str, Any] = {"image_size": 32, "patch_size": 8, "width": WIDTH, "layers": LAYERS}
    shape |= {"heads": 4, "mlp_ratio": 4.0, "output_dim": 16, "act_layer": act, **options}
    with torch.random.fork_rng():
        visual: nn.Module = VisionTransformer(**shape)
    visual.register_parameter("proj", None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in visual.named_parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if name.endswith("weight") and parameter.dim() == 1:
                parameter.add_(1)
    return visual


def make_tower(visual: nn.Module) -> Tower:
    """Our tower of it."""
    return tower_from_open_clip(visual, mean=torch.zeros(3), std=torch.ones(3))


def clip_features(encoder: AdaptedEncoder, pixels: Tensor) -> Tensor:
    """Clip features (E, clips, D) of clips (clips, T, 3, H, W) that every episode sees."""
    kept = encoder.compute_prefix(pixels)
    features: Tensor = encoder(kept.expand(encoder.adapter.episodes, *kept.shape)).clip
    return features


def frame_means(visual: nn.Module, pixels: Tensor) -> Tensor:
    """The same of the open_clip model, (clips, D)."""
    frames: Tensor = visual(pixels.flatten(0, 1))
    return frames.reshape(*pixels.shape[:2], -1).mean(1)


def loss_of(clips: Tensor) -> Tensor:
    """A loss that is not the same for every clip, of (..., clips, D)."""
    return (clips - torch.linspace(-1, 1, clips.shape[-1])).square().sum()


_PARTS = {
    "norm_1": "ln_1.",
    "norm_2": "ln_2.",
    "attn_in": "attn.in_proj_",
    "attn_out": "attn.out_proj.",
    "mlp_in": "mlp.c_fc.",
    "mlp_out": "mlp.c_proj.",
}
_ENDS = {
    "patch_weight": "conv1.weight",
    "class_token": "class_embedding",
    "positions": "positional_embedding",
    "norm_pre": "ln_pre.",
    "norm_post": "ln_post.",
}


def their_name(ours: str) -> str:
    """The name of a parameter of `full` in the open_clip model."""
    first, _, rest = ours.partition(".")
    if first != "maps":
        return _ENDS[first] + rest
    block, part, kind = rest.split(".")
    return f"transformer.resblocks.{block}.{_PARTS[part]}{kind}"


def in_our_layout(theirs: str, tensor: Tensor) -> Tensor:
    """A tensor of the open_clip model, or its gradient, as `full` holds one episode of it."""
    if theirs == "conv1.weight":
        return tensor.flatten(1).T
    is_map = tensor.dim() == 2 and theirs != "positional_embedding"
    return tensor.T if is_map else tensor
