"""Parameters of a plain vision transformer under open_clip's names, without importing open_clip.

Importing open_clip takes longer than reading the shipped encoder and running a short evaluation
with it. Plain transformers, of which a configuration says nothing but sizes and the eps of layer
norms, need only a place for their weights; so do those without first layer norm or with layer
scale, such as ImageNet's and DINOv2's.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# open_clip's defaults for what a configuration leaves out
_SIZES = {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "head_width": 64}
_MLP_RATIO, _EPS = 4, 1e-5
_VARIANTS = {"mlp_ratio", "no_ln_pre", "norm_kwargs", "ls_init_value", "pool_type"}


@dataclass(frozen=True)
class PlainVariant:
    """What a plain transformer has besides its sizes.

    Attributes:
        mlp_ratio: width of the MLP, in widths of the tokens.
        norm_pre: whether there is a layer norm before the blocks.
        eps: of all layer norms.
        layer_scale: whether the outputs of attention and MLP are scaled by channel.
    """

    mlp_ratio: float = _MLP_RATIO
    norm_pre: bool = True
    eps: float = _EPS
    layer_scale: bool = False


class PlainVisionTransformer(nn.Module):
    """Holds the weights of a vision transformer with class token and GELU.

    It has the names, shapes and order of the parameters of open_clip's `VisionTransformer`, and no
    forward pass: `tower_from_open_clip` computes with the weights.

    Args:
        embed_dim: channels of the space shared with text.
        sizes: `image_size`, `patch_size`, `width`, `layers` and `head_width`.
        variant: what else it has.
    """

    def __init__(
        self, embed_dim: int, sizes: Mapping[str, int], variant: PlainVariant = PlainVariant()
    ) -> None:
        super().__init__()
        width, patch = sizes["width"], sizes["patch_size"]
        self.image_size, self.patch_size = (sizes["image_size"],) * 2, (patch, patch)
        self.pool_type = "tok"
        n_tokens = (sizes["image_size"] // patch) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(n_tokens, width))
        self.proj = nn.Parameter(torch.empty(width, embed_dim))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre = nn.LayerNorm(width, variant.eps) if variant.norm_pre else nn.Identity()
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            _PlainBlock(width, width // sizes["head_width"], variant)
            for _ in range(sizes["layers"])
        )
        self.ln_post = nn.LayerNorm(width, variant.eps)


class _PlainBlock(nn.Module):
    """Holds the weights of a transformer block, named as in open_clip's."""

    def __init__(self, width: int, heads: int, variant: PlainVariant) -> None:
        super().__init__()
        mlp_width = int(variant.mlp_ratio * width)
        self.ln_1 = nn.LayerNorm(width, variant.eps)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = _PlainLayerScale(width) if variant.layer_scale else nn.Identity()
        self.ln_2 = nn.LayerNorm(width, variant.eps)
        layers = [
            ("c_fc", nn.Linear(width, mlp_width)),
            ("gelu", nn.GELU()),
            ("c_proj", nn.Linear(mlp_width, width)),
        ]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = _PlainLayerScale(width) if variant.layer_scale else nn.Identity()


class _PlainLayerScale(nn.Module):
    """Holds the factors of a layer scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))


def plain_vision_transformer(
    config: Mapping[str, Any], device: str = "meta"
) -> PlainVisionTransformer | None:
    """Build the place for the weights of a configuration.

    Args:
        config: open_clip's model configuration.
        device: "meta", for weights that are all assigned later; or "cpu", for plain sizes alone,
            where norms have the values that they start with, and all other weights none that mean
            anything.

    Returns:
        None where the configuration says something else, or sizes that open_clip refuses.
    """
    vision = config["vision_cfg"]
    sizes = _SIZES | {key: vision[key] for key in vision if key not in _VARIANTS}
    variant = _read_variant({key: vision[key] for key in vision if key in _VARIANTS})
    if sizes.keys() != _SIZES.keys() or config.get("quick_gelu") or variant is None:
        return None
    if device != "meta" and vision.keys() & _VARIANTS:
        return None
    numbers = [config["embed_dim"], *sizes.values()]
    if not all(type(number) is int and number > 0 for number in numbers):
        return None
    if sizes["width"] % sizes["head_width"] or sizes["image_size"] < sizes["patch_size"]:
        return None
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return PlainVisionTransformer(config["embed_dim"], sizes, variant).eval()


def _read_variant(settings: Mapping[str, Any]) -> PlainVariant | None:
    """Read what a configuration says besides sizes; None where it is not known here."""
    ratio, norm_kwargs = settings.get("mlp_ratio", _MLP_RATIO), settings.get("norm_kwargs") or {}
    scale, no_norm = settings.get("ls_init_value"), settings.get("no_ln_pre", False)
    eps: Any = norm_kwargs.get("eps", _EPS) if isinstance(norm_kwargs, Mapping) else None
    is_known = (
        settings.get("pool_type", "tok") == "tok"
        and all(_is_positive(number) for number in (ratio, eps, 1.0 if scale is None else scale))
        and set(norm_kwargs) <= {"eps"}
        and type(no_norm) is bool
    )
    if not is_known:
        return None
    return PlainVariant(float(ratio), not no_norm, float(eps), layer_scale=scale is not None)


def _is_positive(number: object) -> bool:
    is_bool = isinstance(number, bool)
    return not is_bool and isinstance(number, (int, float)) and 0 < number < math.inf
