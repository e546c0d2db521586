"""Towers on PyTorch's meta device: shapes of an architecture, for counting a method's cost."""

from __future__ import annotations

from pathlib import Path

import torch

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders import architectures, catalog
from fewshot_i2v.models.encoders.architectures import Architecture
from fewshot_i2v.models.encoders.from_open_clip import tower_from_open_clip
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower
from fewshot_i2v.models.encoders.tower import Tower


def meta_tower(
    name: str = "demo", *, image_size: int | None = None, architecture: str | Path | None = None
) -> Tower:
    """Build the tower of an architecture on PyTorch's meta device: shapes, and no values.

    No weights are read, downloaded or drawn, and none need memory; ViT-L/14 takes some 30 ms.

    Args:
        name: "demo", an architecture of open_clip, or your choice with `architecture`.
        image_size: pixels on a side, a multiple of the patch size; None: the model's own.
        architecture: a model configuration of your own, in open_clip's JSON format.

    Raises:
        UnknownNameError: for an unknown name.
        EncoderError: when the configuration cannot be read or built, when the image size does not
            fit, or when the model has no blocks to adapt.
    """
    model = architectures.find_architecture(name, architecture)
    if model.config["vision_cfg"].get("timm_model_name"):
        raise _no_blocks(model, catalog.TIMM_REASON)
    visual = architectures.build_visual_tower(model, in_memory=False)
    tower = tower_from_open_clip(visual, mean=torch.zeros(3), std=torch.ones(3))
    if isinstance(tower, OpaqueTower):
        raise _no_blocks(model, tower.reason)
    return tower if image_size is None else tower.resized(image_size)


def _no_blocks(model: Architecture, reason: str) -> EncoderError:
    return EncoderError(
        f"encoder {model.name!r} has no blocks that can be adapted: {reason}. It works with the "
        "adapter 'frozen' alone; `fewshot-i2v list encoders` shows which ones have blocks"
    )
