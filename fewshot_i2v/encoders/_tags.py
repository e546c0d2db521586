"""Whole CLIP models by a tag of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fewshot_i2v.encoders import _weights
from fewshot_i2v.encoders._architecture import Architecture
from fewshot_i2v.errors import EncoderError, UnknownNameError


def whole_model(model: Architecture, tag: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """Both towers with the weights of a tag, downloaded once by open_clip where they are absent.

    Args:
        model: one of open_clip's own architectures.
        tag: of its weights.

    Returns:
        The model, on the CPU in float32, and open_clip's settings of the tag: `mean`, `std`,
        maybe `quick_gelu`.

    Raises:
        UnknownNameError: for a tag that open_clip does not know for this architecture.
        EncoderError: when the weights cannot be had.
    """
    import open_clip

    settings: dict[str, Any] = open_clip.get_pretrained_cfg(model.name, tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(model.name)
        hint = "The path of a local checkpoint works too, and so does 'random'."
        raise UnknownNameError(f"pretrained tag for {model.name}", tag, tags, hint)
    try:
        # open_clip only warns when the tag was trained with the other activation
        with torch.random.fork_rng(devices=[]):
            whole: nn.Module = open_clip.create_model(
                model.name,
                pretrained=tag,
                require_pretrained=True,
                weights_only=True,
                force_quick_gelu=bool(settings.get("quick_gelu", False)),
            )
    except Exception as error:  # downloads and text towers of other packages raise anything
        where = settings.get("hf_hub") or settings.get("url") or settings.get("file")
        raise EncoderError(
            f"the weights {tag!r} of {model.name} ({where}) cannot be had: {error}. Without a "
            f"network, give a checkpoint on this machine instead: pretrained=/path/to/weights"
            f"{_weights.SUFFIXES[0]} with mean={settings['mean']} and std={settings['std']}"
        ) from error
    return whole.eval(), settings
