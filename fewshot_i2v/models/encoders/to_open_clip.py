"""Conversion of a tower of frozen blocks to the tensors of an open_clip visual model."""

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

from fewshot_i2v.config.file_names import parse_pretrained
from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders import architectures, catalog, loading, text_tower, weights
from fewshot_i2v.models.encoders.architectures import Architecture
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower
from fewshot_i2v.models.encoders.tower import Tower


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
    if isinstance(tower, OpaqueTower):
        raise EncoderError(f"this encoder's weights cannot be written: {tower.reason}")
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


WEIGHTS_FILE = "open_clip_model.safetensors"
"""File of the tensors, as open_clip looks for it."""
CONFIG_FILE = "open_clip_config.json"
"""File of the model configuration, as open_clip looks for it."""

_VISUAL_PREFIX = "visual."
# What open_clip reads of `preprocess_cfg` besides size, mean and std.
_PREPROCESS_KEYS = ("mode", "interpolation", "resize_mode", "fill_color")


def write_open_clip_folder(
    folder: Path,
    tower: Tower,
    *,
    name: str,
    pretrained: str | None = None,
    architecture: Path | None = None,
) -> bool:
    """Write a model's configuration with its text tower and a new visual tower.

    Args:
        folder: where to write; it exists.
        tower: the visual tower, of the model's shapes.
        name: of the model, as for `load_encoder`.
        pretrained: where its text tower is, as for `load_encoder`.
        architecture: the model's configuration, as for `load_encoder`.

    Returns:
        Whether the text tower is written too. Without one the file holds the visual tower alone,
        under the visual tower's names, and loads into `create_model(...).visual`.

    Raises:
        EncoderError: when the tower cannot be written or the text tower cannot be loaded.
    """
    model = architectures.find_architecture(name, architecture)
    text_tensors, settings = _read_text_tower(model, pretrained)
    config = _model_config(model, tower)
    tensors = open_clip_state_dict(
        tower, layer_scale=config["vision_cfg"].get("ls_init_value") is not None
    )
    has_text_tower = bool(text_tensors) and "text_cfg" in config
    if has_text_tower:
        tensors = {
            f"{_VISUAL_PREFIX}{key}": tensor for key, tensor in tensors.items()
        } | text_tensors
    stored_settings = {
        key: settings[key] for key in _PREPROCESS_KEYS if settings.get(key) is not None
    }
    pixel_settings = {
        "size": [tower.image_size, tower.image_size],
        "mean": tower.mean.tolist(),
        "std": tower.std.tolist(),
    }
    folder_config = {"model_cfg": config, "preprocess_cfg": stored_settings | pixel_settings}
    (folder / CONFIG_FILE).write_text(json.dumps(folder_config, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    shutil.copymode(
        folder / CONFIG_FILE, folder / WEIGHTS_FILE
    )  # safetensors lets nobody else read
    return has_text_tower


def _model_config(model: Architecture, tower: Tower) -> dict[str, Any]:
    """Return the model's configuration, with the settings that its weights were loaded with."""
    config: dict[str, Any] = copy.deepcopy(dict(model.config))
    config["vision_cfg"]["image_size"] = tower.image_size
    if (
        tower.blocks and tower.blocks[0].activation_gain != 1.0
    ):  # a tag may ask for it where the name does not
        config["quick_gelu"] = True
    return config


def _read_text_tower(
    model: Architecture, pretrained: str | None
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Return the text tower and the temperature, or nothing, and the pixel settings."""
    settings: Mapping[str, Any] = model.preprocess
    if pretrained == loading.RANDOM_WEIGHTS:
        return {}, settings
    tag, file = (None, None) if pretrained is None else parse_pretrained(pretrained)
    if tag is None or file is not None:
        path = Path(file or catalog.DEMO_WEIGHTS)
        settings = loading.resolve_file_settings(model, tag, path)[0].preprocess
        if not weights.read_checkpoint(path).has_text_tower:
            return {}, settings
        text_tensors = text_tower.read_text_tensors(path)
    else:
        clip_model, settings = loading.load_pretrained_clip(model, tag)
        text_tensors = {
            k: t for k, t in clip_model.state_dict().items() if not k.startswith(_VISUAL_PREFIX)
        }
    # copies: tied weights share memory, which a safetensors file cannot
    return {
        k: t.detach().to("cpu", copy=True).contiguous() for k, t in text_tensors.items()
    }, settings
