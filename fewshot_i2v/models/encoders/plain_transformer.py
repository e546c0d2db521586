"""Parameters of a plain vision transformer under open_clip's names, without importing open_clip.

Importing open_clip takes longer than reading the shipped encoder and running a short evaluation
with it. Plain transformers, of which a configuration says nothing but sizes, need only a place for
their weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

# open_clip's defaults for what a configuration leaves out
_SIZES = {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "head_width": 64}
_MLP_RATIO = 4


class PlainVisionTransformer(nn.Module):
    """Holds the weights of a vision transformer with class token, GELU and no layer scale.

    It has the names, shapes and order of the parameters of open_clip's `VisionTransformer`, and no
    forward pass: `tower_from_open_clip` computes with the weights.

    Args:
        embed_dim: channels of the space shared with text.
        sizes: `image_size`, `patch_size`, `width`, `layers` and `head_width`.
    """

    def __init__(self, embed_dim: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        width, patch = sizes["width"], sizes["patch_size"]
        self.image_size, self.patch_size = (sizes["image_size"],) * 2, (patch, patch)
        self.pool_type = "tok"
        n_tokens = (sizes["image_size"] // patch) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(n_tokens, width))
        self.proj = nn.Parameter(torch.empty(width, embed_dim))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            _PlainBlock(width, width // sizes["head_width"]) for _ in range(sizes["layers"])
        )
        self.ln_post = nn.LayerNorm(width)


class _PlainBlock(nn.Module):
    """Holds the weights of a transformer block, named as in open_clip's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(width)
        layers = [
            ("c_fc", nn.Linear(width, _MLP_RATIO * width)),
            ("gelu", nn.GELU()),
            ("c_proj", nn.Linear(_MLP_RATIO * width, width)),
        ]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = nn.Identity()


def plain_vision_transformer(
    config: Mapping[str, Any], device: str = "meta"
) -> PlainVisionTransformer | None:
    """Build the place for the weights of a configuration.

    Args:
        config: open_clip's model configuration.
        device: "meta", for weights that are all assigned later; or "cpu", where norms have the
            values that they start with, and all other weights none that mean anything.

    Returns:
        None where the configuration says more than plain sizes, or sizes that open_clip refuses.
    """
    sizes = _SIZES | config["vision_cfg"]
    if sizes.keys() != _SIZES.keys() or config.get("quick_gelu"):
        return None
    numbers = [config["embed_dim"], *sizes.values()]
    if not all(type(number) is int and number > 0 for number in numbers):
        return None
    if sizes["width"] % sizes["head_width"] or sizes["image_size"] < sizes["patch_size"]:
        return None
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return PlainVisionTransformer(config["embed_dim"], sizes).eval()
