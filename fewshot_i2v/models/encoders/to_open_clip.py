"""From a tower of frozen blocks back to the tensors of an open_clip visual model."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fewshot_i2v.config.file_names import split_weights
from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders import architectures, catalog, loading, text_tower, weights
from fewshot_i2v.models.encoders.architectures import Architecture
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.opaque_tower import PlainTower
from fewshot_i2v.models.encoders.tower import Tower


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


WEIGHTS = "open_clip_model.safetensors"
"""File of the tensors, as open_clip looks for it."""
CONFIG = "open_clip_config.json"
"""File of the model configuration, as open_clip looks for it."""

_VISUAL = "visual."
# What open_clip reads of `preprocess_cfg` besides size, mean and std.
_PREPROCESS = ("mode", "interpolation", "resize_mode", "fill_color")


def write_model(
    folder: Path,
    tower: Tower,
    *,
    name: str,
    pretrained: str | None = None,
    architecture: Path | None = None,
) -> bool:
    """Writes a model's configuration with its text tower and another visual tower.

    Args:
        folder: where to write; it exists.
        tower: the visual tower, of the model's shapes.
        name: of the model, as for `load_encoder`.
        pretrained: where its text tower is, as for `load_encoder`.
        architecture: the model's configuration, as for `load_encoder`.

    Returns:
        Whether the text tower is there too. Without one the file holds the visual tower alone, by
        its own names, and loads into `create_model(...).visual`.

    Raises:
        EncoderError: when the tower cannot be written or the text tower cannot be had.
    """
    model = architectures.find(name, architecture)
    rest, settings = _besides_the_visual(model, pretrained)
    config = _configuration(model, tower)
    visual = visual_state(tower, layer_scale=config["vision_cfg"].get("ls_init_value") is not None)
    whole = bool(rest) and "text_cfg" in config
    if whole:
        visual = {f"{_VISUAL}{key}": tensor for key, tensor in visual.items()} | rest
    known = {key: settings[key] for key in _PREPROCESS if settings.get(key) is not None}
    pixels = {
        "size": [tower.image_size, tower.image_size],
        "mean": tower.mean.tolist(),
        "std": tower.std.tolist(),
    }
    written = {"model_cfg": config, "preprocess_cfg": known | pixels}
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    save_file(visual, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)  # safetensors lets nobody else read
    return whole


def _configuration(model: Architecture, tower: Tower) -> dict[str, Any]:
    """The model's own configuration with what the weights were loaded with."""
    config: dict[str, Any] = copy.deepcopy(dict(model.config))
    config["vision_cfg"]["image_size"] = tower.image_size
    if tower.blocks and tower.blocks[0].gain != 1.0:  # a tag may ask for it where the name does not
        config["quick_gelu"] = True
    return config


def _besides_the_visual(
    model: Architecture, pretrained: str | None
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The text tower and the temperature, or nothing, and what is known of the pixels."""
    settings: Mapping[str, Any] = model.preprocess
    if pretrained == loading.RANDOM:
        return {}, settings
    tag, file = (None, None) if pretrained is None else split_weights(pretrained)
    if tag is None or file is not None:
        path = Path(file or catalog.DEMO_WEIGHTS)
        settings = loading.for_file(model, tag, path)[0].preprocess
        if not weights.read_checkpoint(path).text:
            return {}, settings
        rest = text_tower.read_tensors(path)
    else:
        whole, settings = loading.whole_model(model, tag)
        rest = {k: t for k, t in whole.state_dict().items() if not k.startswith(_VISUAL)}
    # copies: tied weights share memory, which a safetensors file cannot
    return {k: t.detach().to("cpu", copy=True).contiguous() for k, t in rest.items()}, settings
